package cache

import (
	"fmt"
	"syscall"
)

// reserve returns n bytes of address space, outside of Go's heap, that take memory page
// by page as they are written, and what returns them.
func reserve(n int) ([]byte, func(), error) {
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot reserve %d bytes of memory for kept answers: %w; lower cache.bytes", n, err)
	}
	// A huge page would take more than what is written. Kernels without them refuse.
	_ = syscall.Madvise(b, syscall.MADV_NOHUGEPAGE)
	return b, func() { _ = syscall.Munmap(b) }, nil
}

// decommit gives the memory of whole pages back; they are zero then.
func decommit(b []byte) {
	if err := syscall.Madvise(b, syscall.MADV_DONTNEED); err != nil {
		panic(fmt.Sprintf("BUG: cannot give %d bytes of kept answers back: %v", len(b), err))
	}
}
