package caddycvs

// This file holds GET /cvs/backup of Caddy's admin endpoint: a copy of the ledger, as a ledger's file.

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
)

var (
	// backupStall is how long a client may take no byte. The ledger's file grows meanwhile.
	backupStall = 10 * time.Second
	// backupLimit is how long a backup may take in all.
	backupLimit = 10 * time.Minute
)

// backupType is the media type of a backup.
const backupType = "application/octet-stream"

// backup answers GET /cvs/backup. The answer has no Content-Length: if it is broken off, its last chunk is
// missing, which every client takes for an error.
func (a *Admin) backup(w http.ResponseWriter, r *http.Request) error {
	if err := requireMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	if r.URL.RawQuery != "" {
		return badQuery("there are no parameters")
	}
	orders, err := a.presentLedger()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), backupLimit)
	defer cancel()
	out := &backupWriter{w: w, connection: http.NewResponseController(w)}
	err = orders.WriteBackup(ctx, out)
	switch {
	case err == nil:
		return nil
	case out.begun: // an error that is returned would be written behind what was sent
		panic(http.ErrAbortHandler)
	case errors.Is(err, ledger.ErrCopying):
		return adminError(http.StatusConflict, err)
	case errors.Is(err, ledger.ErrDown):
		return adminError(http.StatusServiceUnavailable, err)
	}
	return adminError(http.StatusInternalServerError, err)
}

// backupWriter writes an answer to a client that must not stop reading.
type backupWriter struct {
	w          http.ResponseWriter
	connection *http.ResponseController
	begun      bool
}

func (b *backupWriter) Write(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		b.w.Header().Set("Content-Type", backupType)
		b.w.Header().Set("Content-Disposition", `attachment; filename="ledger.db"`)
		b.w.Header().Set("Cache-Control", "no-store")
	}
	if err := b.connection.SetWriteDeadline(time.Now().Add(backupStall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return b.w.Write(p)
}

// stop ends a Write that is under way.
func (b *backupWriter) stop() { _ = b.connection.SetWriteDeadline(time.Now()) }

// WriteBackup writes a copy of the ledger while it is used. Its errors show no address of a database.
func (p *pooledLedger) WriteBackup(ctx context.Context, w io.Writer) error {
	err := p.hide(p.Backup(ctx, func(ctx context.Context, store ledger.Store) error {
		if stopping, can := w.(interface{ stop() }); can {
			defer context.AfterFunc(ctx, stopping.stop)()
		}
		if file, is := store.(*boltstore.Store); is {
			return file.Copy(ctx, w)
		}
		return copyThroughFile(ctx, store.(ledger.Movable), w)
	}))
	switch {
	case err == nil:
		p.logger().Info("a backup of the ledger was written")
	case !errors.Is(err, ledger.ErrDown) && !errors.Is(err, ledger.ErrCopying):
		p.logger().Warn("a backup of the ledger was broken off", zap.Error(err))
	}
	return err
}

// copyThroughFile writes the rows of a database as a ledger's file, which is made in the directory for
// temporary files first.
func copyThroughFile(ctx context.Context, from ledger.Movable, w io.Writer) (err error) {
	name, err := temporaryName()
	if err != nil {
		return err
	}
	remove := func() error {
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	defer func() { err = errors.Join(err, remove()) }()
	file, err := boltstore.Open(name, boltstore.Options{NoSync: true}) // it does not outlive the process
	if err != nil {
		return err
	}
	_ = remove() // now, or a killed gateway would leave it behind; Windows keeps the name of an open file
	if err = ledger.Copy(ctx, from, file); err == nil {
		err = file.Copy(ctx, w)
	}
	return errors.Join(err, file.Close())
}

// temporaryName makes an empty file that only its owner can read.
func temporaryName() (string, error) {
	file, err := os.CreateTemp("", "cvs-backup-*.db")
	if err != nil {
		return "", err
	}
	return file.Name(), file.Close()
}
