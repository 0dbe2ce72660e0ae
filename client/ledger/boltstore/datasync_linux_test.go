package boltstore

import (
	"os"
	"syscall"
)

// datasync syncs a file as bbolt does it.
func datasync(file *os.File) error { return syscall.Fdatasync(int(file.Fd())) }
