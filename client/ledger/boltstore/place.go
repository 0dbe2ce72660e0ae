package boltstore

// This file holds how a new file gets the name that it is to have.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Place gives a file another name in the same directory, durably. If there is a file of that name already,
// that is fs.ErrExist, unless it is to be replaced. A ledger that a process uses is never replaced: that is
// ErrLocked.
func Place(temporary, path string, replace bool) error {
	if _, err := Verify(path); errors.Is(err, ErrLocked) {
		return fmt.Errorf("replacing %s: %w", path, ErrLocked)
	}
	err := rename(temporary, path, replace)
	if err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	return err
}

func rename(temporary, path string, replace bool) error {
	if !replace {
		err := os.Link(temporary, path) // a rename would replace a file that came meanwhile
		switch {
		case err == nil:
			return os.Remove(temporary)
		case errors.Is(err, fs.ErrExist):
			return err
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) { // a file system without links
			return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
	}
	return os.Rename(temporary, path)
}
