//go:build !linux

package pgtest

import (
	"errors"
	"os/exec"
	"syscall"
)

var errLinux = errors.New("the native backend needs Linux")

func (r *Root) inRoot(cmd *exec.Cmd, _ syscall.Signal) { cmd.Err = errLinux }

func boundIn(cmd *exec.Cmd, _ string) { cmd.Err = errLinux }

func asRoot(*exec.Cmd) {}

func startBound(*exec.Cmd) (<-chan error, error) { return nil, errLinux }

func unmount(string) error { return errLinux }
