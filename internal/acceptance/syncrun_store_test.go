package acceptance

// This file holds the sync run with a small program in place of the gateway. It can do what the
// gateway cannot: not sync.

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// The orders of the sync run, half of which get a second barcode.
const syncOrders = 40

// The store is synced before what depends on it. The same test finds that without syncs it is not.
func TestStoreIsSyncedBeforeWhatDependsOnIt(t *testing.T) {
	t.Parallel()
	for name, noSync := range map[string]bool{"synced": false, "NoSync": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ledger.db")
			command, trace := strace(t)
			command = append(command, os.Args[0])
			cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %v", storeVariable, path, takeAll(t), noSync))
			output, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", output)
			calls := readTrace(t, trace, cmd.Process.Pid)
			lost, sent := judgeTrace(t, "sync run, "+name, calls, path, func(impUID string) (order, id string) {
				order, id, _ = strings.Cut(strings.TrimPrefix(impUID, "imp_"), ".")
				return order, id
			})
			assert.Equal(t, map[string]int{sendsPost: syncOrders * 3 / 2, sendsDelete: syncOrders / 2, sendsAnswer: syncOrders * 3 / 2}, sent)
			assert.Equal(t, noSync, len(lost) > 0, printed(lost))
		})
	}
}

// takeAll accepts connections, answers each write with a byte, and returns its address.
func takeAll(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 4096)
				for {
					if _, err := conn.Read(buffer); err != nil {
						return
					}
					if _, err := conn.Write([]byte{'.'}); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// storeVariable is the environment variable that makes a process of the test's binary a user of a
// store. Its value has the file, the address to send to, and whether the store does not sync.
const storeVariable = "CVS_TEST_STORE"

// serveAsStoreUser is that process. It writes rows and sends what depends on them, as a gateway would. In
// any other process it reports false.
func serveAsStoreUser() bool {
	value := os.Getenv(storeVariable)
	if value == "" {
		return false
	}
	fields := strings.Fields(value)
	store, err := boltstore.Open(fields[0], boltstore.Options{NoSync: fields[2] == "true"})
	if err == nil {
		err = useStore(store, fields[1])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

// useStore issues and replaces barcodes, several at once.
func useStore(store ledger.Store, address string) error {
	var all sync.WaitGroup
	failed := make(chan error, syncOrders)
	for n := range syncOrders {
		all.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				failed <- err
				return
			}
			defer conn.Close()
			u := storeUser{store: store, conn: conn, row: &ledger.Row{Format: ledger.Format, Order: fmt.Sprintf("order-%d", n), Due: 1}}
			u.issue()
			if n%2 == 0 {
				u.void()
				u.issue()
			}
			failed <- u.err
		})
	}
	all.Wait()
	for range syncOrders {
		if err := <-failed; err != nil {
			return err
		}
	}
	return store.Close()
}

// storeUser keeps one order's row, and sends what depends on it.
type storeUser struct {
	store ledger.Store
	conn  net.Conn
	row   *ledger.Row
	err   error // the first
}

func (u *storeUser) put(lazy bool) {
	if u.err == nil {
		u.row.Version++
		u.err = u.store.Put(context.Background(), u.row, u.row.Version-1, lazy)
	}
}

func (u *storeUser) send(text string) {
	if u.err == nil {
		_, u.err = u.conn.Write([]byte(text))
	}
	if u.err == nil {
		_, u.err = u.conn.Read(make([]byte, 1))
	}
}

func (u *storeUser) issue() {
	id := signedurl.NewID()
	u.row.Attempts = append(u.row.Attempts, ledger.Attempt{ID: id, State: ledger.Asked, Amount: "15000", Asked: 1, Since: 1})
	u.put(false)
	u.send(sendsPost + " HTTP/1.1\r\n\r\nmerchant_uid=" + u.row.Order + "&confirm_url=http%3A%2F%2Fshop%3Fcvs_id%3D" + id)
	last := &u.row.Attempts[len(u.row.Attempts)-1]
	last.State, last.ImpUID = ledger.Issued, "imp_"+u.row.Order+"."+id
	u.put(true)
	u.send("HTTP/1.1 200 OK\r\n\r\n" + `{"imp_uid":"` + last.ImpUID + `"}`)
}

func (u *storeUser) void() {
	last := &u.row.Attempts[len(u.row.Attempts)-1]
	last.Voiding = true
	u.put(false)
	u.send(sendsDelete + "/" + last.ImpUID)
	last.Voiding, last.State = false, ledger.Void
}
