package acceptance

// This file holds the sync run: whatever a request or an answer depends on is in the ledger's file,
// and synced, before its first byte is written. strace tells in which order a process wrote and
// synced; for each request and answer the file is made as a power cut just then may leave it, and
// opened.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
)

// What a process sends.
const (
	sendsPost   = "POST /cvs"
	sendsDelete = "DELETE /cvs"
	sendsAnswer = "answer"
	sendsKept   = "answer to a notice"
)

// noticeField is a header field that an answer to a notice has for this run. Its value is the imp_uid.
const noticeField = "X-Notice-Of"

// sending is the moment before a process sends something that depends on the ledger.
type sending struct {
	what      string
	order, id string // of the attempt
	impUID    string // of a notice
	line      int    // of the trace
}

// issuedFor returns the order and the attempt's id of a payment.
type issuedFor func(impUID string) (order, id string)

var (
	orderSent  = regexp.MustCompile(`\bmerchant_uid=([\w-]+)`)
	idSent     = regexp.MustCompile(`confirm_url=\S*?cvs_id(?:=|%3D)([\w-]{16})`)
	impUIDSent = regexp.MustCompile(`^DELETE /cvs/(imp_[\w.-]+)`)
	noticeKept = regexp.MustCompile(`^HTTP/1\.1 200 [^{]*` + noticeField + `: (imp_[\w.-]+)[^{]*\{"kept":true\}`)
	impUIDTold = regexp.MustCompile(`^HTTP/1\.1 200 [^{]*\{[^$]*"imp_uid":"(imp_[\w.-]+)"`)
)

// sendings finds what a process sent. A POST /cvs may be written in two parts: its moment is that of
// the first.
func sendings(calls []*tracedCall, payment issuedFor) (list []sending) {
	headers := make(map[string]int) // by connection: the line of a POST whose body is to come
	for _, c := range calls {
		if c.name != "write" {
			continue
		}
		text := string(c.data)
		if strings.HasPrefix(text, sendsPost+" ") {
			headers[c.file] = c.begin
		}
		header, isPost := headers[c.file]
		id, order := idSent.FindStringSubmatch(text), orderSent.FindStringSubmatch(text)
		voids, tells, kept := impUIDSent.FindStringSubmatch(text), impUIDTold.FindStringSubmatch(text), noticeKept.FindStringSubmatch(text)
		s := sending{line: c.begin}
		switch {
		case isPost && id != nil && order != nil:
			s.what, s.line, s.order, s.id = sendsPost, header, order[1], id[1]
			delete(headers, c.file)
		case voids != nil:
			s.what = sendsDelete
			s.order, s.id = payment(voids[1])
		case tells != nil:
			s.what = sendsAnswer
			s.order, s.id = payment(tells[1])
		case kept != nil:
			s.what, s.impUID = sendsKept, kept[1]
			s.order, s.id = payment(kept[1])
		default:
			continue
		}
		list = append(list, s)
	}
	return list
}

// missing returns what a row lacks of that which a sending depends on, or "".
func (s sending) missing(row *ledger.Row) string {
	if s.what == sendsKept {
		if !slices.ContainsFunc(row.Hints, func(h ledger.Hint) bool { return h.ImpUID == s.impUID }) {
			return "nothing says that the payment is to be looked at"
		}
		return ""
	}
	i := slices.IndexFunc(row.Attempts, func(a ledger.Attempt) bool { return a.ID == s.id })
	if i < 0 {
		return "the attempt is missing"
	}
	a := row.Attempts[i]
	isOver := a.Voiding || a.Closed || a.State != ledger.Asked && a.State != ledger.Issued
	switch {
	case s.what == sendsDelete && !isOver:
		return "nothing says that the barcode is to be voided"
	case s.what != sendsDelete && (isOver || i != len(row.Attempts)-1):
		return "the attempt is not the order's last one"
	}
	return ""
}

// judgeTrace cuts the power before everything that was sent, several times, and prints what it found.
// It returns what was lost, and how much was sent of each kind.
func judgeTrace(t *testing.T, title string, calls []*tracedCall, path string, payment issuedFor) (lost []string, sent map[string]int) {
	t.Helper()
	const cuts = 4
	rng, dir := draw(3), t.TempDir()
	sent = make(map[string]int)
	var all []sending
	var files []string
	for _, s := range sendings(calls, payment) {
		sent[s.what]++
		for range cuts {
			all, files = append(all, s), append(files, filepath.Join(dir, fmt.Sprintf("%d.db", len(all))))
			afterPowerCut(calls, path, s.line, rng).write(t, files[len(files)-1])
		}
	}
	rows := readRows(t, files, all)
	for i, found := range rows {
		what := found.Error
		if found.Row != nil {
			what = all[i].missing(found.Row)
		}
		if what != "" {
			lost = append(lost, fmt.Sprintf("%s of order %s, attempt %s: %s", all[i].what, all[i].order, all[i].id, what))
		}
	}
	figures := table{title: title}
	for _, what := range []string{sendsPost, sendsDelete, sendsAnswer, sendsKept} {
		figures.row("sent: "+what, sent[what])
	}
	for _, name := range []string{"pwrite64", "fdatasync", "fsync", "ftruncate"} {
		n := 0
		for _, c := range calls {
			if c.name == name && c.file == path {
				n++
			}
		}
		figures.row("the ledger's file: "+name, n)
	}
	figures.row("power cuts", len(rows))
	figures.row("POWER CUTS THAT LOST WHAT WAS RELIED ON", len(lost))
	figures.print(t)
	return lost, sent
}

// printed shortens a list for a message.
func printed(list []string) string { return strings.Join(list[:min(len(list), 10)], "\n") }

// readVariable is the environment variable that makes a process of the test's binary a reader of
// rows. A damaged file can end the program that opens it.
const readVariable = "CVS_TEST_READ_ROWS"

// foundRow is a row as it was read from a file, or the reason why there is none.
type foundRow struct {
	Row   *ledger.Row
	Error string
}

// readRows reads a row from each file in another process. If a file ends that process or keeps it
// busy, the rows behind it are not read.
func readRows(t *testing.T, files []string, rows []sending) (list []foundRow) {
	t.Helper()
	var input strings.Builder
	for i, file := range files {
		fmt.Fprintln(&input, file, rows[i].order)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env, cmd.Stdin = append(os.Environ(), readVariable+"=1"), strings.NewReader(input.String())
	output, err := cmd.Output()
	for line := range strings.Lines(string(output)) {
		var found foundRow
		require.NoError(t, json.Unmarshal([]byte(line), &found))
		list = append(list, found)
	}
	if err != nil {
		list = append(list, foundRow{Error: "the file ended the program: " + err.Error()})
	} else {
		require.Len(t, list, len(files))
	}
	return list
}

// serveAsReader is that process. In any other process it reports false.
func serveAsReader() bool {
	if os.Getenv(readVariable) == "" {
		return false
	}
	debug.SetMaxStack(32 << 20) // a page that is its own child is searched until the stack is full
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		busy := time.AfterFunc(5*time.Second, func() { os.Exit(1) }) // bbolt can go round in circles, too
		file, order, _ := strings.Cut(lines.Text(), " ")
		var found foundRow
		var err error
		if found.Row, err = readRow(file, order); err != nil {
			found.Error = err.Error()
		}
		busy.Stop()
		line, _ := json.Marshal(found)
		fmt.Println(string(line))
	}
	return true
}

func readRow(file, order string) (*ledger.Row, error) {
	store, err := boltstore.Open(file, boltstore.Options{NoSync: true})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return store.Get(context.Background(), ledger.Key{Order: order})
}
