package caddycvs

// This file holds tests of the documents' words about what an app does and what goes wrong: the requests
// and answers in it are those that an app sends and gets, and each row of what goes wrong has its tests.

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// steady replaces what differs from one run to another by the documents' values.
func steady(text string, i gatewaytest.Issued) string {
	text = strings.NewReplacer(i.ImpUID, "imp_142857142857", i.Barcode, "98200142857142857142").Replace(text)
	for pattern, value := range map[string]string{
		`(?m)^X-Cvs-Expires: \d+$`:                         "X-Cvs-Expires: 1796018400",
		`(?m)^X-Cvs-Timeout-Ms: (2\d{3}|3000)$`:            "X-Cvs-Timeout-Ms: 3000",
		`(?m)^Webhook-Id: cvs_[\w-]{22}$`:                  "Webhook-Id: cvs_0Zc8tZVq1mRk2mX0bU3FYQ",
		`(?m)^Webhook-Timestamp: \d{10}$`:                  "Webhook-Timestamp: 1795759213",
		`(?m)^Webhook-Signature: v1,[\w+/]{43}=$`:          "Webhook-Signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
		`"paid_at":\d{10}`:                                 `"paid_at":1795759210`,
		`(?m)^(\w+) http://127.0.0.1:\d+(/\S*)$`:           "$1 $2",
		`(?m)^(Host|Accept-Encoding|Content-Length): .*\n`: "",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, value)
	}
	return text
}

// dumped writes a request that the shop got, and the shop's answer, as the documents show them.
func dumped(r *http.Request, body, answer string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", r.Method, r.URL.Path)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&b, "%s: %s\n", name, r.Header.Get(name))
	}
	return b.String() + "\n" + body + "\n```\n\n```http\n200 OK\nContent-Type: application/json\n\n" + answer + "\n"
}

func TestDocumentsShowTheAppsRequests(t *testing.T) {
	const yes, heard = `{"payable":true,"total":15000}`, `{"heard":true}`
	t.Setenv("CVS_NOTICE_SECRET", "whsec_"+strings.Repeat("A", 32))
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Proxy:  gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice",
		Notice: "tell SHOP/payments/{http.cvs.merchant_uid} {\nrequire heard true\nsecret {env.CVS_NOTICE_SECRET}\n}",
		Payable: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if strings.HasPrefix(r.URL.Path, "/payments/") {
				fmt.Fprint(w, heard)
				return
			}
			fmt.Fprint(w, yes)
		},
	})
	const ask = `{"merchant_uid":"A-1001","amount":15000,"name":"접이식 우산"}`
	a := g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.JSONType, ask)
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	p := a.Payment(t)
	i := gatewaytest.Issued{ImpUID: p["imp_uid"].(string), Barcode: p["vbank_num"].(string), MerchantUID: "A-1001"}
	till := g.Do(t, http.MethodPost, g.APIURL+"/till", gatewaytest.FormType, "pay_type=cash&barcode="+i.Barcode)
	require.Equal(t, http.StatusOK, till.Status, till.Body)
	require.Eventually(t, func() bool { return g.Shop.Count() == 2 }, 10*time.Second, 5*time.Millisecond)

	answer := fmt.Sprintf(`{"code":0,"message":null,"response":{"imp_uid":%q,"merchant_uid":%q,"amount":%v,"status":%q,"vbank_num":%q, …}}`,
		p["imp_uid"], p["merchant_uid"], p["amount"], p["status"], p["vbank_num"])
	for name, text := range map[string]string{
		"ask":   "POST http://127.0.0.1:8081/cvs\nContent-Type: application/json\n\n" + ask + "\n```\n\n```http\n200 OK\nContent-Type: " + a.Header.Get("Content-Type") + "\n\n" + answer + "\n",
		"check": dumped(g.Shop.Requests[0], g.Shop.Bodies[0], yes),
		"told":  dumped(g.Shop.Requests[1], g.Shop.Bodies[1], heard),
	} {
		if name != "ask" {
			text = steady(text, i)
		} else {
			text = strings.NewReplacer(i.ImpUID, "imp_142857142857", i.Barcode, "98200142857142857142").Replace(text)
		}
		assert.Contains(t, documents(t), "```http\n"+text+"```\n", name)
	}
}

// failureTests are the tests of each row of the documents' table of what goes wrong with a notice, by the
// row's first words.
var failureTests = map[string][]string{
	"the notice is lost":                      {"TestQuickstartShopHearsOfPaymentsWithoutNotices", "TestSweepFindsWhatNoNoticeTold", "TestDeliveryRun"},
	"it comes twice":                          {"TestDoubledNotice", "TestDeliveryRun"},
	"it comes before the payment":             {"TestPaidWhileTheLookUpLags", "TestHintThatIsNotMetForADay"},
	"it is forged":                            {"TestNoticeForgeryRun", "TestFloodOfNotices"},
	"it names the order in its signed URL":    {"TestKnownPaymentOfAnotherOrder", "TestPaymentThatTheRowDoesNotKnow"},
	"it comes before the answer":              {"TestNoticeBeforeTheAnswerIsWritten", "TestPaymentThatTheRowDoesNotKnow", "TestNoticeByWhatIsKnown"},
	"the refund's notice comes before":        {"TestEventsOfAnOrderFollowEachOther", "TestObserveByState"},
	"PortOne is down":                         {"TestHintStaysWhileTheAPIIsSilent", "TestWorkerKeepsRetryAfter", "TestWorkerMakesFiftyCallsASecond"},
	"the shop is down":                        {"TestShopThatIsDown", "TestTellVerdict", "TestTellToAShopThatIsDown", "TestDeliveryRun"},
	"the shop heard, and its answer was lost": {"TestTellVerdict", "TestDeliveryRun"},
	"one order makes the shop fail":           {"TestPoisonedOrder"},
	"Caddy is killed":                         {"TestGatewaySyncsBeforeItSends", "TestAnswerThatCannotBeWritten", "TestDeliveryRun"},
	"Caddy stands still":                      {"TestMessageIsWithdrawnAfterAStop", "TestTwoNodesNeverTellOneOrderAtOnce"},
	"the disk is full":                        {"TestNoticeWhileTheLedgerIsDown"},
	"an expired or voided barcode is paid":    {"TestExpiredIsTold", "TestDeliveryRun"},
	"two barcodes of an order are paid":       {"TestTwoPaidBarcodes"},
	"the clock was set":                       {"TestTellingAfterAClockWasSetBack", "TestSweepCorrectsRowsAfterTheClockWasSet"},
}

func TestDocumentedFailuresHaveTests(t *testing.T) {
	t.Parallel()
	_, table, found := strings.Cut(documents(t), "**What goes wrong, and what follows.**")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n**History.**")
	assertRowsHaveTests(t, table, failureTests)
}

// assertRowsHaveTests compares the rows of a table with their tests, by the row's first words.
func assertRowsHaveTests(t *testing.T, table string, byRow map[string][]string) {
	t.Helper()
	_, table, found := strings.Cut(table, "\n|---")
	require.True(t, found)
	exists := testFunctions(t)
	rows := 0
	for line := range strings.SplitSeq(table, "\n") {
		row, isRow := strings.CutPrefix(line, "| ")
		if !isRow {
			continue
		}
		rows++
		tested := false
		for words, tests := range byRow {
			if !strings.HasPrefix(row, words) {
				continue
			}
			tested = true
			for _, name := range tests {
				assert.True(t, exists[name], "%s, for: %s", name, row)
			}
		}
		assert.True(t, tested, row)
	}
	assert.Len(t, byRow, rows)
}

// testFunctions returns the names of all tests of the module.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	names, function := make(map[string]bool), regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range function.FindAllSubmatch(source, -1) {
			names[string(match[1])] = true
		}
		return err
	}))
	return names
}
