package gatewaytest

// This file holds RunMain, and the search for secrets in everything that the gateway wrote.

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// Canaries are the secrets of all tests, by the environment variable that has them. None of
// them may be found in what the gateway writes.
var Canaries = map[string]string{
	"CVS_TEST_KEY":           "canary-imp-key",
	"CVS_TEST_SECRET":        "canary-imp-secret",
	"CVS_TEST_SECOND_KEY":    "canary-second-imp-key",
	"CVS_TEST_SECOND_SECRET": "canary-second-imp-secret",
	"CVS_TEST_SIGNING_KEY":   "canary-signing-key-of-32-characters",
	"CVS_TEST_PREVIOUS_KEY":  "canary-previous-key-of-32-characters",
	"CVS_TEST_INTERNAL_KEY":  "canary-shop-key",
	"CVS_TEST_NOTICE_SECRET": "whsec_Y2FuYXJ5LW5vdGljZS1zZWNyZXQtb2YtMzItYnl0ZXM=",
	"CVS_TEST_TWO_LINES":     "canary-shop-key\nX-Injected: 1",
}

// The personal data of all tests, which the gateway must not write either.
const (
	BuyerName  = "카나리아구매자"
	BuyerTel   = "010-9876-54321"
	BuyerEmail = "canary-buyer@shop.example"
)

// written collects what the gateway wrote during all tests of a package: the bodies of
// error answers here, and the logs at debug level and the ledgers in files.
var written struct {
	sync.Mutex
	errors bytes.Buffer
	tokens map[string]bool // every token that the API saw
	exempt map[string]bool // files that show a parameter of the signature's name on purpose
	dir    string
}

// RunMain runs the tests of a package, which are a testing.M, or a dbtest.M. It fails if one of them made the gateway write a
// secret, or use the ledger of this machine's own Caddy. A test package calls it in TestMain.
// The package must import the Caddy module.
func RunMain(m interface{ Run() int }) {
	for name, value := range Canaries {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	if serveAsCaddy() {
		return
	}
	os.Exit(runAll(m))
}

func runAll(m interface{ Run() int }) int {
	dir, err := os.MkdirTemp("", "caddy-cvs-test")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	written.dir, written.tokens, written.exempt = filepath.Join(dir, "written"), make(map[string]bool), make(map[string]bool)
	if err := errors.Join(os.Mkdir(written.dir, 0o700), os.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))); err != nil {
		panic(err)
	}
	code := m.Run()
	if found := FindSecrets(); code == 0 && found != "" {
		fmt.Fprintln(os.Stderr, "FAIL: the run wrote a secret:", found)
		return 1
	}
	if code == 0 && HasDefaultLedger() {
		fmt.Fprintln(os.Stderr, "FAIL: a test used the default path of the ledger, which belongs to this machine's own Caddy: its configuration needs the option ledger")
		return 1
	}
	return code
}

// HasDefaultLedger reports whether there is a ledger at the default path. During tests that is
// in a directory of theirs.
func HasDefaultLedger() bool {
	_, err := os.Stat(filepath.Join(caddy.AppDataDir(), "cvs", "ledger.db"))
	return err == nil
}

// AddSecret adds a text that nothing written may contain.
func AddSecret(text string) {
	written.Lock()
	defer written.Unlock()
	written.tokens[text] = true
}

// Placeholder returns a placeholder that stands for a secret until the test ends, for a secret that is
// not the same in each run.
func Placeholder(t testing.TB, secret string) string {
	t.Helper()
	AddSecret(secret)
	name := fmt.Sprintf("CVS_TEST_SECRET_%d", placeholders.Add(1))
	if err := os.Setenv(name, secret); err != nil { // not t.Setenv, which no parallel test may use
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Unsetenv(name) })
	return "{env." + name + "}"
}

// placeholders counts those of Placeholder.
var placeholders atomic.Int64

// ExemptLog excludes a log file from the search: the test makes another handler print a
// signed URL on purpose.
func ExemptLog(name string) {
	written.Lock()
	defer written.Unlock()
	written.exempt[name] = true
}

// Dir is the directory whose files are searched for secrets.
func Dir() string { return written.dir }

// secrets are the texts that nothing written may contain.
func secrets() []string {
	list := []string{"cvs_sig=", "cvs_sig%3D", "cvs_sig\\u003d", "Bearer ", BuyerName, BuyerTel, BuyerEmail}
	for _, value := range Canaries {
		list = append(list, value)
	}
	for token := range written.tokens {
		list = append(list, token)
	}
	return list
}

// FindSecrets names a file and the secret in it, or returns "".
func FindSecrets() (found string) {
	written.Lock()
	defer written.Unlock()
	texts := map[string][]byte{"error answers": written.errors.Bytes()}
	files, _ := filepath.Glob(filepath.Join(written.dir, "*"))
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return err.Error()
		}
		if !written.exempt[name] {
			texts[filepath.Base(name)] = withoutEmptyPages(content)
		}
	}
	search := newSearch(secrets())
	for name, content := range texts {
		secret, i := search.find(content)
		if place := barcodePattern.FindIndex(content); secret == "" && filepath.Ext(name) == ".db" && place != nil {
			secret, i = string(content[place[0]:place[1]]), place[0]
		}
		if secret != "" {
			return fmt.Sprintf("%q in %s: …%s…", secret, name, content[max(0, i-200):min(len(content), i+100)])
		}
	}
	return ""
}

// barcodePattern matches the number of a barcode that the sandbox issues. No ledger may have one.
var barcodePattern = regexp.MustCompile(`[0-9]{20}`)

// withoutEmptyPages returns a ledger's file without the pages that were never written, which are most of it: to look through
// them takes minutes with the race detector.
func withoutEmptyPages(content []byte) (kept []byte) {
	empty := make([]byte, 4096)
	for page := range slices.Chunk(content, len(empty)) {
		if bytes.Equal(page, empty) {
			page = empty[:1] // so that what stands before and after is not read as one
		}
		kept = append(kept, page...)
	}
	return kept
}

// search finds any of many texts: there are thousands of tokens, and some ten megabytes.
type search struct {
	first  [256]bool // whether a text begins with the byte
	starts map[[shortest]byte][]string
}

// shortest is the length of the shortest text.
const shortest = len("Bearer ")

func newSearch(texts []string) *search {
	s := &search{starts: make(map[[shortest]byte][]string)}
	for _, text := range texts {
		start := [shortest]byte([]byte(text))
		s.first[start[0]] = true
		s.starts[start] = append(s.starts[start], text)
	}
	return s
}

// find returns the first text that the content has, and its place.
func (s *search) find(content []byte) (text string, at int) {
	for i := 0; i+shortest <= len(content); i++ {
		if !s.first[content[i]] {
			continue
		}
		for _, text := range s.starts[[shortest]byte(content[i:])] {
			if bytes.HasPrefix(content[i:], []byte(text)) {
				return text, i
			}
		}
	}
	return "", 0
}
