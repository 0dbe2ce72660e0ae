//go:build windows || plan9 || solaris || aix

package boltstore

import "os"

// unlock does nothing: here, closing the file releases the lock.
func unlock(*os.File) error { return nil }
