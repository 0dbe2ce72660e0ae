package boltstore

// This file holds opening a file: as a database, and as a ledger.

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// bbolt returns the options of bbolt.
func (o Options) bbolt() *bbolt.Options {
	options := &bbolt.Options{
		Timeout: cmp.Or(o.LockTimeout, defaultLockTimeout),
		NoSync:  o.NoSync,
		// The other type searches the whole list for each page that it takes. The list is written
		// with each commit: without it, opening would read the whole file.
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
		OpenFile:     os.OpenFile,
	}
	if runtime.GOOS != "windows" && strconv.IntSize == 64 { // Windows would make the file as large
		options.InitialMmapSize = mapSize
	}
	if o.Existing {
		options.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
			return os.OpenFile(name, flag&^os.O_CREATE, mode)
		}
	}
	if o.tune != nil {
		o.tune(options)
	}
	return options
}

// open opens the file and checks it, and makes a ledger of an empty one.
func (s *Store) open(path string, options *bbolt.Options) error {
	err := s.openDatabase(path, options)
	if err == nil {
		if err = guard(func() error { return s.prepare(path) }); err != nil {
			_ = s.release(err)
		}
	}
	if errors.Is(err, errDamaged) {
		return fmt.Errorf("%w: %w", ErrNotLedger, err)
	}
	return err
}

// openDatabase opens and locks the file as a database of bbolt.
func (s *Store) openDatabase(path string, options *bbolt.Options) error {
	_, err := os.Lstat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	open := options.OpenFile
	options.OpenFile = func(name string, flag int, mode os.FileMode) (file *os.File, err error) {
		file, err = open(name, flag, mode)
		s.file = file
		return file, err
	}
	err = guard(func() (err error) {
		if s.db, err = bbolt.Open(path, 0o600, options); err == nil {
			s.db.AllocSize = growBy
		}
		return err
	})
	var system syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	case errors.As(err, &system):
		if fresh && !errors.Is(err, fs.ErrNotExist) { // a full disk leaves half a file, which could not be opened later
			_ = os.Remove(path)
		}
		return err
	case errors.Is(err, errDamaged):
		_ = s.release(err)
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotLedger, err)
}

// prepare makes a database that is a ledger, or empty, ready for use.
func (s *Store) prepare(path string) error {
	var lack func(*bbolt.Tx) error
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		lack, err = s.inspect(tx)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.settle(); err != nil || lack == nil {
		return err
	}
	if err := s.db.Update(lack); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// inspect returns what makes the buckets that a database lacks, or nil. If the database is not
// empty, it must be a ledger.
func (s *Store) inspect(tx *bbolt.Tx) (lack func(*bbolt.Tx) error, err error) {
	info, err := s.file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < tx.Size() {
		return nil, fmt.Errorf("%w: it is shorter than it was", ErrNotLedger)
	}
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		if name, _ := tx.Cursor().First(); name != nil {
			return nil, ErrNotLedger
		}
		return create, nil
	}
	format, err := strconv.Atoi(string(meta.Get(formatKey)))
	switch {
	case err != nil:
		return nil, ErrNotLedger
	case format > fileFormat && format != movedFormat:
		return nil, fmt.Errorf("%w: its format is %d, this version knows %d", ErrNewer, format, fileFormat)
	case tx.Bucket(queuesBucket) == nil:
		return createQueues, nil
	}
	return nil, nil
}

// settle makes durable what the file seems to be. After a killed process or a failed sync, the
// kernel may show a newer meta page than the disk has, and after a failure it would not write it
// again. bbolt would overwrite pages that the disk's meta page still needs.
func (s *Store) settle() error {
	meta := make([]byte, 2*s.db.Info().PageSize)
	if _, err := s.file.ReadAt(meta, 0); err != nil {
		return err
	}
	if _, err := s.file.WriteAt(meta, 0); err != nil {
		return err
	}
	return s.file.Sync()
}

// create makes the buckets of a ledger.
func create(tx *bbolt.Tx) error {
	for _, name := range [][]byte{rowsBucket, dueBucket, impBucket, queuesBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	return meta.Put(formatKey, strconv.AppendInt(nil, fileFormat, 10))
}

// createQueues makes the bucket that a file of an older version lacks. It begins empty: the rows of
// such a file stand in no queue.
func createQueues(tx *bbolt.Tx) error {
	_, err := tx.CreateBucket(queuesBucket)
	return err
}

// syncDirectory makes the name of a new file durable: syncing the file alone need not.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" { // which cannot sync a directory
		return nil
	}
	dir, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
