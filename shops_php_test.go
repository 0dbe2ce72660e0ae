package caddycvs

// This file holds tests of the shop in examples/php, as it is shipped, with a real php-fpm and
// MariaDB: what is peculiar to its database. The list that every shop must pass is elsewhere.

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// phpShop is the shop in PHP with its gateway and its sandbox.
type phpShop struct {
	*gatewaytest.Gateway
	app, sandbox string
	database     dbtest.Database
	server       *dbtest.Server
}

const phpShopSecret = "whsec_" + "dGhlIHNlY3JldCBvZiB0aGUgUEhQIHNob3AncyB0ZXN0"

func startPHPShop(t *testing.T) *phpShop {
	t.Helper()
	return startPHPShopAt(t, "")
}

// startPHPShopAt starts a shop that looks for its database at another address, if one is given.
func startPHPShopAt(t *testing.T, address string) *phpShop {
	t.Helper()
	fpm := program(t, "php-fpm")
	if modules, err := exec.CommandContext(t.Context(), fpm, "-m").Output(); err != nil || !strings.Contains(string(modules), "pdo_mysql") {
		t.Skip("php-mysql is not installed")
	}
	server := dbtest.Shared(t, dbtest.MariaDB)
	s := &phpShop{
		Gateway: &gatewaytest.Gateway{LogFile: gatewaytest.LogFile(t), HTTP: gatewaytest.HTTPClient(t)},
		app:     "http://" + gatewaytest.Address(t), sandbox: "http://" + gatewaytest.Address(t),
		database: server.NewDatabase(t), server: server,
	}
	s.Inside, s.Outside = "http://"+gatewaytest.Address(t), "http://"+gatewaytest.Address(t)
	s.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	schema, err := os.ReadFile("examples/php/schema.sql")
	require.NoError(t, err)
	s.sql(t, string(schema))

	root, err := filepath.Abs("examples/php")
	require.NoError(t, err)
	dir := gatewaytest.ShortDir(t)
	socket := filepath.Join(dir, "shop.sock")
	s.runFPM(t, fpm, dir, socket, cmp.Or(address, server.Addr()))
	content, err := os.ReadFile("examples/php/Caddyfile")
	require.NoError(t, err)
	config := regexp.MustCompile(`\{\$([A-Z_]+):[^}]*\}`).ReplaceAllStringFunc(string(content), func(variable string) string {
		name, _, _ := strings.Cut(strings.TrimPrefix(variable, "{$"), ":")
		return map[string]string{
			"SHOP_PORT": port(gatewaytest.Host(s.Outside)), "GATEWAY_PORT": port(gatewaytest.Host(s.Inside)),
			"APP_PORT": port(gatewaytest.Host(s.app)), "SANDBOX_PORT": port(gatewaytest.Host(s.sandbox)),
			"SHOP_ROOT": root, "PHP_SOCKET": socket,
		}[name]
	})
	gatewaytest.Run(t, strings.NewReplacer(
		"{env.CVS_TELL_SECRET}", gatewaytest.Placeholder(t, phpShopSecret),
		"{env.CVS_DATABASE}", gatewaytest.Placeholder(t, server.NewDatabase(t).DSN),
		"{env.PORTONE_IMP_KEY}", "{env.CVS_TEST_KEY}", "{env.PORTONE_IMP_SECRET}", "{env.CVS_TEST_SECRET}",
		"\tadmin off\n", "\tadmin off\n\tauto_https off\n\tlog {\n\t\toutput file "+s.LogFile+"\n\t}\n",
	).Replace(config))
	return s
}

// runFPM runs the shop's php-fpm with the shipped configuration.
func (s *phpShop) runFPM(t *testing.T, fpm, dir, socket, address string) {
	t.Helper()
	content, err := os.ReadFile("examples/php/php-fpm.conf")
	require.NoError(t, err)
	conf := strings.Replace(string(content), "pm.max_children = 16", "pm.max_children = 4", 1)
	if os.Geteuid() == 0 {
		conf += "user = root\n"
	}
	name := filepath.Join(dir, "php-fpm.conf")
	require.NoError(t, os.WriteFile(name, []byte(conf), 0o600))
	host, databasePort, found := strings.Cut(address, ":")
	require.True(t, found)
	runPart(t, "unix", socket, "env",
		"PHP_SOCKET="+socket, "CVS_URL="+s.Inside, "CVS_TELL_SECRET="+phpShopSecret, "SHOP_LIFETIME=600",
		"SHOP_DB_DSN=mysql:host="+host+";port="+databasePort+";dbname="+s.database.Name,
		"SHOP_DB_USER="+s.database.User, "SHOP_DB_PASSWORD="+s.database.Password,
		fpm, "--allow-to-run-as-root", "--fpm-config", name)
}

// sql runs statements in the shop's database.
func (s *phpShop) sql(t *testing.T, statements string) {
	t.Helper()
	db, err := s.server.Superuser(s.database.Name)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(t.Context(), statements)
	require.NoError(t, err)
}

// text returns a value of a row that must exist.
func (s *phpShop) text(t *testing.T, query string) (text string) {
	t.Helper()
	db, err := s.server.Superuser(s.database.Name)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&text))
	return text
}

// number is text for a number.
func (s *phpShop) number(t *testing.T, query string) int {
	t.Helper()
	n, err := strconv.Atoi(s.text(t, query))
	require.NoError(t, err)
	return n
}

var pictureInPage = regexp.MustCompile(`<img src="/barcode/([0-9]{20})\.svg"`)

// order orders a product, and returns the order's path and its barcode's number.
func (s *phpShop) order(t *testing.T, product string) (path, barcode string) {
	t.Helper()
	a := s.Do(t, http.MethodPost, s.Outside+"/orders", gatewaytest.FormType, "product="+product)
	require.Equal(t, http.StatusSeeOther, a.Status, a.Body)
	path = a.Header.Get("Location")
	page := s.Do(t, http.MethodGet, s.Outside+path, "", "").Body
	found := pictureInPage.FindStringSubmatch(page)
	require.NotNil(t, found, page)
	return path, found[1]
}

// scan scans a barcode at a till, and returns the till's answer.
func (s *phpShop) scan(t *testing.T, barcode string) gatewaytest.Answer {
	t.Helper()
	return s.Do(t, http.MethodPost, s.sandbox+"/till", gatewaytest.FormType, url.Values{"barcode": {barcode}}.Encode())
}

func (s *phpShop) state(t *testing.T, path string) any {
	t.Helper()
	return s.Do(t, http.MethodGet, s.Outside+path+".json", "", "").Field(t, "state")
}

// tell sends the shop a message that was signed so long ago, or not at all without a secret, and returns the status of its answer.
// Its path names another order: the body counts.
func (s *phpShop) tell(t *testing.T, m tell.Message, secret string, age time.Duration) int {
	t.Helper()
	contentType, body := m.Encode(false)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.app+"/payments/another", bytes.NewReader(body))
	require.NoError(t, err)
	signed := time.Now().Add(-age)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Webhook-Id", m.ID())
	r.Header.Set("Webhook-Timestamp", strconv.FormatInt(signed.Unix(), 10))
	if secret != "" {
		key, err := tell.ParseSecret(secret)
		require.NoError(t, err)
		r.Header.Set("Webhook-Signature", "v1,older "+tell.Sign([]tell.Secret{key}, m.ID(), signed, body))
	}
	a := s.Send(t, r)
	if a.Status == http.StatusOK {
		assert.JSONEq(t, `{"heard":true}`, a.Body)
	}
	return a.Status
}

// Of several tills that ask at the same moment for the last item, one is told yes.
func TestPHPShopHoldsTheLastItem(t *testing.T) {
	t.Parallel()
	s := startPHPShop(t)
	const tills = 6
	orders := make(map[string]string, tills)
	for range tills {
		path, barcode := s.order(t, "lamp")
		orders[path] = barcode
	}
	answers := make(chan gatewaytest.Answer, tills)
	for _, barcode := range orders {
		go func() { answers <- s.scan(t, barcode) }()
	}
	accepted := 0
	for range tills {
		if a := <-answers; a.Field(t, "accepted") == true {
			accepted++
		} else {
			assert.Equal(t, "품절되었습니다", a.Field(t, "reason"))
		}
	}
	assert.Equal(t, 1, accepted)
	assert.Equal(t, 0, s.number(t, "SELECT stock FROM products WHERE id = 'lamp'"))
	for path := range orders {
		if s.number(t, "SELECT held FROM orders WHERE id = '"+filepath.Base(path)+"'") == 1 {
			require.Eventually(t, func() bool { return s.state(t, path) == "paid" }, 20*time.Second, 10*time.Millisecond, "%s", s.LazyLog(t))
			continue
		}
		assert.Equal(t, "waiting", s.state(t, path))
	}
	assert.Equal(t, 0, s.number(t, "SELECT stock FROM products WHERE id = 'lamp'"), "it is taken once")
	assert.Equal(t, http.StatusConflict, s.Do(t, http.MethodPost, s.Outside+"/orders", gatewaytest.FormType, "product=lamp").Status)
}

// An order that somebody else has locked is no yes, and the till hears so in time.
func TestPHPShopWithALockedOrder(t *testing.T) {
	t.Parallel()
	s := startPHPShop(t)
	path, barcode := s.order(t, "umbrella")
	db, err := s.server.Superuser(s.database.Name)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var id string
	require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT id FROM orders WHERE id = ? FOR UPDATE", filepath.Base(path)).Scan(&id))
	began := time.Now()
	a := s.scan(t, barcode)
	assert.Less(t, time.Since(began), 4*time.Second)
	assert.Equal(t, false, a.Field(t, "accepted"), a.Body)
	assert.Contains(t, a.Body, `"status": 502`, "PHP answers 500, which is not a no")
	require.NoError(t, tx.Rollback())
	assert.Equal(t, true, s.scan(t, barcode).Field(t, "accepted"))
}

// A database that accepts connections and says nothing keeps no child of PHP for long.
func TestPHPShopWithASilentDatabase(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	s := startPHPShopAt(t, silent.Addr().String())
	began := time.Now()
	assert.Equal(t, http.StatusInternalServerError, s.Do(t, http.MethodGet, s.Outside+"/", "", "").Status)
	assert.Less(t, time.Since(began), 10*time.Second)
}

// What the shop is told changes an order once, and only if Caddy has signed it lately.
func TestPHPShopHearsOnlyWhatCaddyTells(t *testing.T) {
	t.Parallel()
	s := startPHPShop(t)
	path, barcode := s.order(t, "lamp")
	stock := func() int { return s.number(t, "SELECT stock FROM products WHERE id = 'lamp'") }
	assert.Equal(t, 1, s.number(t, "SELECT barcode = '"+barcode+"' FROM orders"))
	impUID := s.text(t, "SELECT imp_uid FROM orders")
	check := func(impUID string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.app+path+"/payable", nil)
		require.NoError(t, err)
		r.Header.Set("X-Cvs-Imp-Uid", impUID)
		return s.Send(t, r).Status
	}
	paid := tell.Message{ImpUID: impUID, MerchantUID: filepath.Base(path), Event: tell.Paid, Status: "paid", Amount: "30000", CancelAmount: "0", PaidAt: 1790000000}
	with := func(change func(*tell.Message)) tell.Message {
		m := paid
		change(&m)
		return m
	}
	refused := func(want int, m tell.Message, secret string, age time.Duration) {
		t.Helper()
		assert.Equal(t, want, s.tell(t, m, secret, age))
		assert.Equal(t, "waiting", s.state(t, path))
	}
	other := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	refused(401, paid, "", 0)
	refused(401, paid, other, 0)
	refused(401, paid, phpShopSecret, 6*time.Minute)
	refused(401, paid, phpShopSecret, -6*time.Minute)
	refused(409, with(func(m *tell.Message) { m.Amount = "15000" }), phpShopSecret, 0)
	refused(404, with(func(m *tell.Message) { m.MerchantUID = "주문 1&2" }), phpShopSecret, 0)
	refused(200, with(func(m *tell.Message) { m.Test = true }), phpShopSecret, 0)
	refused(200, with(func(m *tell.Message) { m.Event, m.ImpUID = tell.Expired, "imp_other" }), phpShopSecret, 0)

	require.Equal(t, http.StatusConflict, check("imp_other"))
	require.Equal(t, http.StatusConflict, check(""))
	require.Equal(t, 1, stock())
	require.Equal(t, http.StatusOK, check(impUID))
	require.Equal(t, http.StatusOK, check(impUID), "asked twice")
	require.Equal(t, 0, stock())
	require.Equal(t, 200, s.tell(t, with(func(m *tell.Message) { m.Event = tell.Expired }), phpShopSecret, 0))
	assert.Equal(t, "expired", s.state(t, path))
	assert.Equal(t, 1, stock(), "the item goes back")
	assert.Equal(t, http.StatusConflict, check(impUID))
	for range 2 { // paid all the same, and told twice
		require.Equal(t, 200, s.tell(t, paid, phpShopSecret, 0))
		assert.Equal(t, "paid", s.state(t, path))
		assert.Equal(t, 0, stock())
	}
	for _, refund := range []struct{ imp, sum, state string }{{"imp_other", "30000", "paid"}, {impUID, "10000", "paid"}, {impUID, "30000", "cancelled"}, {impUID, "10000", "cancelled"}} {
		m := with(func(m *tell.Message) { m.Event, m.ImpUID, m.CancelAmount = tell.Cancelled, refund.imp, refund.sum })
		require.Equal(t, 200, s.tell(t, m, phpShopSecret, 0))
		assert.Equal(t, refund.state, s.state(t, path), "%+v", refund)
	}
	assert.Equal(t, 30000, s.number(t, "SELECT refunded FROM orders"))
	require.Equal(t, 200, s.tell(t, paid, phpShopSecret, 0), "told again after a restore")
	assert.Equal(t, "cancelled", s.state(t, path))
}

// What an existing shop copies stays short. This reads every file of the shop, so that go test does not
// take the results of these tests from its cache after a change in PHP.
func TestPHPShopPartsFitOnAScreen(t *testing.T) {
	t.Parallel()
	var parts []string
	require.NoError(t, filepath.WalkDir("examples/php", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		if filepath.Dir(name) == filepath.FromSlash("examples/php/gateway") {
			parts = append(parts, entry.Name())
			assert.LessOrEqual(t, strings.Count(string(content), "\n"), 55, name)
			assert.Contains(t, string(content), "An existing shop copies this file.", name)
		}
		return nil
	}))
	assert.Equal(t, []string{"ask.php", "check.php", "told.php"}, parts)
}
