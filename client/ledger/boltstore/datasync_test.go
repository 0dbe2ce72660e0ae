//go:build !linux

package boltstore

import "os"

// datasync syncs a file as bbolt does it.
func datasync(file *os.File) error { return file.Sync() }
