package acceptance

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// This file holds the end of the fault run: what the log and the ledger say about each order.

// logged is what the gateway's log says about the calls for a barcode.
type logged struct {
	offset int64
	orders map[string][]time.Time // named as those of such a call, and when
	doubts faultCounts            // calls that ended in 504, by their cause
}

// read reads what was logged since the last time.
func (l *logged) read(t *testing.T, name string) {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	_, err = file.Seek(l.offset, io.SeekStart)
	require.NoError(t, err)
	added, err := io.ReadAll(file)
	require.NoError(t, err)
	for line := range strings.Lines(string(added)) {
		if !strings.HasSuffix(line, "\n") {
			return // it is still being written
		}
		l.offset += int64(len(line))
		entry := gjson.GetMany(line, "operation", "status", "cause", "merchant_uid", "ts")
		if entry[0].Str != "issue" {
			continue
		}
		order := entry[3].Str
		l.orders[order] = append(l.orders[order], time.UnixMicro(int64(entry[4].Num*1e6)))
		if entry[1].Int() == http.StatusGatewayTimeout {
			_, cause, _ := strings.Cut(entry[2].Str, ": ")
			l.doubts.add("504 after: " + cause)
		}
	}
}

// names reports whether the log has a line about an app's last call. If the gateway was shut
// down, a line that was written after the shutdown does not count: a real process would have
// ended.
func (l *logged) names(v *appView, lag *machineLag) bool {
	last := v.died.Add(runMargin + lag.between(v.died, v.died.Add(time.Second)))
	return slices.ContainsFunc(l.orders[v.order], func(at time.Time) bool {
		return at.After(v.began.Add(-runMargin)) && (v.died.IsZero() || at.Before(last))
	})
}

// readLog reads the log when the gateway has finished the calls whose apps have left.
func (f *faultRun) readLog(t *testing.T) *logged {
	t.Helper()
	l := &logged{orders: make(map[string][]time.Time)}
	for {
		l.read(t, f.g.LogFile)
		pending := false
		for _, v := range f.views {
			pending = pending || v.status == 0 && !l.names(v, &f.lag) && time.Since(v.ended) < 2*runTimeout()+time.Second
		}
		if !pending {
			l.read(t, f.g.LogFile)
			return l
		}
		wait(nil, 100*time.Millisecond)
	}
}

// verdicts counts the events that must not happen.
type verdicts struct {
	unknown, twice, phantom, late, unaccepted, refused, fractions, unnamed, dead int

	lagged                          int // late but for the machine's lag
	doubt, doubtWith, left, leftHas int
	asked, paid                     int
	slowest, slowestScan            time.Duration
	outcomes                        faultCounts
}

// report compares what the apps know with the ledger, and prints the figures.
func (f *faultRun) report(t *testing.T, took time.Duration, scans []scan) {
	log := f.readLog(t)
	c := new(verdicts)
	ledger := make(map[string][]emulator.Payment)
	for _, p := range f.g.API.Payments() {
		ledger[p.MerchantUID] = append(ledger[p.MerchantUID], p)
		if p.Amount != math.Trunc(p.Amount) {
			c.fractions++
			t.Errorf("order %s has a barcode of %v won", p.MerchantUID, p.Amount)
		}
	}
	for _, v := range f.views {
		f.judge(t, c, v, ledger[v.order], log)
	}
	for _, s := range scans {
		f.judgeScan(t, c, s)
	}
	for _, l := range f.network.dead {
		c.dead++
		t.Errorf("the gateway wrote into %v", l)
	}

	figures := table{title: "fault run"}
	figures.row("orders", len(f.views))
	figures.row("POST /cvs by the apps", c.asked)
	figures.row("seconds", int(took.Seconds()))
	figures.row("reloads", f.reloads)
	figures.row("longest shutdown, ms", f.slowest.shutDown.Milliseconds())
	for _, counts := range []*faultCounts{&c.outcomes, &log.doubts} {
		for _, name := range counts.names {
			figures.row(name, counts.counts[name])
		}
	}
	f.faults.requireFaults(t, &figures)
	figures.row("apps that left or lost their connection", c.left)
	figures.row("... of which had a barcode, found by look-up", c.leftHas)
	figures.row("504 outcome unknown", c.doubt)
	figures.row("... of which had a barcode, found by look-up", c.doubtWith)
	figures.row("slowest answer to an app, ms", c.slowest.Milliseconds())
	figures.row("scans", len(scans))
	figures.row("paid", c.paid)
	figures.row("slowest decision, ms", c.slowestScan.Milliseconds())
	figures.row("greatest lag of a timer, ms", f.lag.between(f.lag.began, time.Now()).Milliseconds())
	figures.row("slowest commit on the disk, ms", f.disk.between(f.disk.began, time.Now()).Milliseconds())
	figures.row("answers in time only if the lag is allowed for", c.lagged)
	figures.row("BARCODES THAT NO APP KNOWS OF", c.unknown)
	figures.row("ORDERS WITH TWO BARCODES", c.twice)
	figures.row("SUCCESSES THAT DO NOT EXIST", c.phantom)
	figures.row("ANSWERS LATER THAN THEIR LIMIT", c.late)
	figures.row("PAID WITHOUT THE SHOP'S WORD", c.unaccepted)
	figures.row("PAID AGAINST THE SHOP'S NO", c.refused)
	figures.row("BARCODES WITH A FRACTION OF A WON", c.fractions)
	figures.row("ORDERS CUT OFF THAT NO LOG LINE NAMES", c.unnamed)
	figures.row("REQUESTS INTO A CONNECTION LONG DEAD", c.dead)
	figures.print(t)
	assert.Positive(t, c.paid)
	assert.Positive(t, f.reloads)
}

// judge compares what an app knows of its order with what was issued for it.
func (f *faultRun) judge(t *testing.T, c *verdicts, v *appView, issued []emulator.Payment, log *logged) {
	t.Helper()
	if len(issued) > 1 {
		c.twice++
		t.Errorf("order %s has %d barcodes; its app was answered %d", v.order, len(issued), v.status)
	}
	switch {
	case v.status == 0 || v.status == http.StatusGatewayTimeout:
		found := f.lookUp(t, v)
		if (found == "") != (len(issued) == 0) {
			c.unknown++
			t.Errorf("order %s: a look-up finds %q, and the ledger has %d", v.order, found, len(issued))
		}
		if v.status != 0 {
			c.doubt, c.doubtWith = c.doubt+1, c.doubtWith+min(1, len(issued))
			break
		}
		c.left, c.leftHas = c.left+1, c.leftHas+min(1, len(issued))
		if len(issued) > 0 && !log.names(v, &f.lag) {
			c.unnamed++
			t.Errorf("order %s was cut off, has a barcode, and no log line", v.order)
		}
	case v.impUID == "" && len(issued) > 0:
		c.unknown++
		t.Errorf("order %s has a barcode, and its app was answered %d code %d", v.order, v.status, v.code)
	case v.status == 200 && v.code == 0 && (len(issued) == 0 || issued[0].ImpUID != v.impUID):
		c.phantom++
		t.Errorf("order %s has no payment %s", v.order, v.impUID)
	}
	c.asked += v.asked
	if v.status != 0 {
		c.outcomes.add(fmt.Sprintf("answered %d, code %d", v.status, v.code))
	}
	c.slowest = max(c.slowest, v.slowest)
	for _, s := range v.slow {
		if f.isLate(c, s, s.took(), 2*runTimeout()) {
			t.Errorf("order %s was answered after %v", v.order, s.took())
		}
	}
}

// judgeScan judges one attempt to pay.
func (f *faultRun) judgeScan(t *testing.T, c *verdicts, s scan) {
	t.Helper()
	if s.result.Accepted {
		c.paid++
		switch byRoute := s.site == f.sites[1]; { // where on_error accepts
		case !byRoute && !f.saidYes[s.order]:
			c.unaccepted++
			t.Errorf("order %s is paid, and the shop did not accept it", s.order)
		case byRoute && f.saidNo[s.order]:
			c.refused++
			t.Errorf("order %s is paid, and the shop has refused it", s.order)
		}
	}
	for w := s.result.Confirm; w != nil; w = w.Duplicate {
		took := time.Duration(w.DurationMS) * time.Millisecond
		c.slowestScan = max(c.slowestScan, took)
		if f.isLate(c, s.span, took, runDecision) {
			t.Errorf("the webhook of order %s was answered after %v", s.order, took)
		}
	}
}

// isLate reports whether an answer took longer than its limit plus the lag of the machine at
// that time. An answer waits for two commits of the ledger at most, each behind another one.
func (f *faultRun) isLate(c *verdicts, s span, took, limit time.Duration) bool {
	if took <= limit+runMargin {
		return false
	}
	const commits = 4
	if took > limit+runMargin+f.lag.between(s.from, s.to)+commits*f.disk.between(s.from, s.to) {
		c.late++
		return true
	}
	c.lagged++
	return false
}

// lookUp looks the order up, as a 504 tells the app to do.
func (f *faultRun) lookUp(t *testing.T, v *appView) (impUID string) {
	for range 20 {
		a := f.g.Do(t, http.MethodGet, v.site+"/payments/find/"+v.order, "", "")
		switch a.Status {
		case http.StatusOK:
			return a.Payment(t)["imp_uid"].(string)
		case http.StatusNotFound:
			return ""
		}
		wait(nil, 200*time.Millisecond) // no token yet
	}
	t.Errorf("order %s cannot be looked up", v.order)
	return ""
}
