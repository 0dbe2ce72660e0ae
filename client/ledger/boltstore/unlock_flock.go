//go:build !windows && !plan9 && !solaris && !aix

package boltstore

import (
	"os"
	"syscall"
)

// unlock releases the lock that bbolt took. Closing the file does not: its mapping keeps it open.
func unlock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
}
