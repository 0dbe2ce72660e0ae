package acceptance

// This file holds tests of a notice while the ledger cannot be written, each way: it is answered 503, so
// that its sender may send it again, and kept when the ledger works again.

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// prepareNotices prepares a gateway with a shop that hears everything. Nothing but a notice makes it look
// at a payment.
func prepareNotices(t *testing.T) (g *gatewaytest.Gateway, config string) {
	t.Helper()
	g, config = gatewaytest.Prepare(t, gatewaytest.Setup{
		Proxy: proxyWithNotice, Notice: gatewaytest.UsualNotice + "\nsweep off",
		Payable: gatewaytest.AnswerWith(200, `{"payable":true,"total":15000,"heard":true}`),
	})
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointNotice, Drop: emulator.DropBefore}))
	return g, config
}

// sendNotice sends the genuine notice of a barcode.
func sendNotice(t *testing.T, g *gatewaytest.Gateway, i gatewaytest.Issued) gatewaytest.Answer {
	t.Helper()
	_, urls := g.API.WebhookURLs(i.ImpUID)
	return g.Do(t, http.MethodPost, urls[0], gatewaytest.JSONType, fmt.Sprintf(`{"imp_uid":%q,"merchant_uid":%q,"status":"paid"}`, i.ImpUID, i.MerchantUID))
}

// assertNotKept sends a notice, which is answered 503, and sends it again until it is kept and told.
func assertNotKept(t *testing.T, g *gatewaytest.Gateway, i gatewaytest.Issued, mend func()) {
	t.Helper()
	_, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: i.Barcode})
	require.NoError(t, err)
	a := sendNotice(t, g, i)
	assert.Equal(t, 503, a.Status, a.Body)
	assert.Equal(t, "10", a.Header.Get("Retry-After"))
	assert.Equal(t, false, a.Field(t, "kept"))
	g.WaitForLine(t, `"level":"error"`, `"msg":"notice"`, `"outcome":"not kept"`)
	mend()
	require.Eventually(t, func() bool { return sendNotice(t, g, i).Status == 200 }, 30*time.Second, 50*time.Millisecond)
	g.WaitForLine(t, `"level":"info"`, "the ledger is up again")
	g.WaitForLine(t, `"msg":"tell"`, `"merchant_uid":"`+i.MerchantUID+`"`, `"outcome":"heard"`)
}

func TestNoticeWhileTheLedgerFileIsLocked(t *testing.T) {
	t.Parallel()
	g, config := prepareNotices(t)
	other, err := boltstore.Open(g.Ledger, boltstore.Options{})
	require.NoError(t, err)
	gatewaytest.Run(t, config)
	assertNotKept(t, g, g.MustIssue(t, "order-1"), func() { require.NoError(t, other.Close()) })
}

// The device behind the open file is exchanged. Writing to /dev/full fails as on a full disk; writing to
// /dev/null succeeds, but syncing fails.
func TestNoticeWhileTheDiskFails(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(g *gatewaytest.Gateway) (*os.File, error){
		"full":        func(*gatewaytest.Gateway) (*os.File, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) },
		"failed sync": func(*gatewaytest.Gateway) (*os.File, error) { return os.OpenFile("/dev/null", os.O_RDWR, 0) },
		"read-only":   func(g *gatewaytest.Gateway) (*os.File, error) { return os.Open(g.Ledger) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, config := prepareNotices(t)
			gatewaytest.Run(t, config)
			for n := range 10 { // until there are free pages: the file is not to grow
				sendNotice(t, g, g.MustIssue(t, fmt.Sprintf("before-%d", n)))
			}
			i := g.MustIssue(t, "order-1")
			device, err := open(g)
			require.NoError(t, err)
			defer device.Close()
			require.NoError(t, syscall.Dup3(int(device.Fd()), descriptorOf(t, g.Ledger, device), syscall.O_CLOEXEC))
			assertNotKept(t, g, i, func() {})
		})
	}
}

// descriptorOf returns the descriptor of a file that this process has open, beside another one.
func descriptorOf(t *testing.T, path string, other *os.File) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, entry := range list {
		var fd int
		_, _ = fmt.Sscan(entry.Name(), &fd)
		if target, _ := os.Readlink(filepath.Join("/proc/self/fd", entry.Name())); target == path && fd != int(other.Fd()) {
			return fd
		}
	}
	t.Fatal("the ledger's file is not open")
	return 0
}
