package pgtest

import (
	"os/exec"
	"runtime"
	"syscall"
)

// inRoot makes cmd run in the root as its user postgres and die with this
// process.
func (r *Root) inRoot(cmd *exec.Cmd, death syscall.Signal) {
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     r.Dir,
		Credential: &syscall.Credential{Uid: uint32(r.uid), Gid: uint32(r.gid)},
		Setpgid:    true, // an interrupt at the terminal is for the test alone
		Pdeathsig:  death,
	}
}

// nobody is the user that drivers' programs run as in a Debian root.
const nobody = 65534

// boundIn makes cmd die with this process, and run in root as nobody unless that
// is "".
func boundIn(cmd *exec.Cmd, root string) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if root != "" {
		cmd.SysProcAttr.Chroot = root
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

// asRoot has cmd run with this process's rights.
func asRoot(cmd *exec.Cmd) { cmd.SysProcAttr.Credential = nil }

// startBound starts cmd on a thread that lives as long as cmd does, because the
// kernel sends Pdeathsig when the starting thread ends. The channel gets the
// result of Wait.
func startBound(cmd *exec.Cmd) (<-chan error, error) {
	started := make(chan error)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
			close(done)
		}
	}()
	return done, <-started
}

func unmount(path string) error {
	return syscall.Unmount(path, syscall.MNT_DETACH)
}
