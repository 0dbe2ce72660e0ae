package gatewaytest

// This file holds the requests that a test sends to a gateway, and the reading of answers
// and logs.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Answer is an HTTP response that was read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Field returns a member of the JSON object that the body is.
func (a Answer) Field(t testing.TB, field string) any {
	t.Helper()
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.Body), &fields), a.Body)
	return fields[field]
}

// Payment returns the payment in an answer of the API.
func (a Answer) Payment(t testing.TB) map[string]any {
	t.Helper()
	payment, ok := a.Field(t, "response").(map[string]any)
	require.True(t, ok, "no payment in %d %s", a.Status, a.Body)
	return payment
}

// Send sends a request, and keeps the body of an error answer for FindSecrets. Other
// goroutines than the test's may call it: it reports a failure without ending the test.
func (g *Gateway) Send(t testing.TB, r *http.Request) Answer {
	t.Helper()
	resp, err := g.HTTP.Do(r)
	if err != nil {
		t.Error(err)
		return Answer{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	if resp.StatusCode >= 400 {
		written.Lock()
		fmt.Fprintf(&written.errors, "%s\n", body)
		written.Unlock()
	}
	return Answer{resp.StatusCode, resp.Header, string(body)}
}

// Do is Send for a request of these parts. It sets no Content-Type if contentType is empty.
func (g *Gateway) Do(t testing.TB, method, target, contentType, body string) Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return Answer{}
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return g.Send(t, r)
}

// The media types of request bodies.
const (
	JSONType = "application/json"
	FormType = "application/x-www-form-urlencoded"
)

// Issue asks for a barcode of an order of 15000 won.
func (g *Gateway) Issue(t testing.TB, merchantUID string) Answer {
	t.Helper()
	body, _ := json.Marshal(map[string]any{
		"merchant_uid": merchantUID, "amount": 15000, "buyer_name": BuyerName, "buyer_tel": BuyerTel, "buyer_email": BuyerEmail,
	})
	return g.Do(t, http.MethodPost, g.Inside+"/cvs", JSONType, string(body))
}

// Issued is a barcode with the URL that its confirm webhook goes to.
type Issued struct {
	ImpUID, MerchantUID, Barcode, ConfirmURL string
}

// MustIssue is Issue, and fails the test if there is no barcode.
func (g *Gateway) MustIssue(t testing.TB, merchantUID string) Issued {
	t.Helper()
	a := g.Issue(t, merchantUID)
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	p := a.Payment(t)
	i := Issued{ImpUID: p["imp_uid"].(string), MerchantUID: merchantUID, Barcode: p["vbank_num"].(string)}
	if g.API != nil {
		i.ConfirmURL, _ = g.API.WebhookURLs(i.ImpUID)
	}
	return i
}

// Webhook returns the body of the confirm webhook as it is documented.
func (i Issued) Webhook() string {
	body, _ := json.Marshal(map[string]any{
		"event": "Galaxia.Cvs.Confirm", "imp_uid": i.ImpUID, "merchant_uid": i.MerchantUID, "status": "ready",
		"extra": map[string]string{"barcode": i.Barcode, "payType": "card"},
	})
	return string(body)
}

// Confirm sends the confirm webhook as GalaxiaMoneytree does.
func (g *Gateway) Confirm(t testing.TB, i Issued) Answer {
	t.Helper()
	return g.Do(t, http.MethodPost, i.ConfirmURL, JSONType, i.Webhook())
}

// GetToken sends POST /users/getToken to a base URL of cvs_proxy and returns the status.
// The gateway answers it itself: only the right to call decides.
func (g *Gateway) GetToken(t testing.TB, base string, header http.Header) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/users/getToken", nil)
	require.NoError(t, err)
	r.Header = header.Clone()
	return g.Send(t, r).Status
}

// Log returns what was logged so far.
func (g *Gateway) Log(t testing.TB) string {
	t.Helper()
	content, err := os.ReadFile(g.LogFile)
	require.NoError(t, err)
	return string(content)
}

// WaitForLine waits for a line of the log that has all of these texts, and returns it: a line
// is written after the answer has left.
func (g *Gateway) WaitForLine(t testing.TB, texts ...string) string {
	t.Helper()
	var found string
	require.Eventually(t, func() bool {
		for line := range strings.Lines(g.Log(t)) {
			hits := 0
			for _, text := range texts {
				if strings.Contains(line, text) {
					hits++
				}
			}
			if hits == len(texts) {
				found = line
			}
		}
		return found != ""
	}, 5*time.Second, 2*time.Millisecond, "%q in one line of:\n%s", texts, g.LazyLog(t))
	return found
}

// LazyLog returns a text that reads the log only when it is printed.
func (g *Gateway) LazyLog(t testing.TB) fmt.Stringer { return logText{g, t} }

type logText struct {
	g *Gateway
	t testing.TB
}

func (l logText) String() string { return l.g.Log(l.t) }

// SendRaw sends bytes as they are, and returns every answer until the connection ends. The
// last request must ask for the connection's end.
func SendRaw(t testing.TB, network, address, raw string) []Answer {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), network, address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	go io.WriteString(conn, raw) // beside reading: the server may answer before it has read all
	var got []Answer
	for r := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return got
		}
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		got = append(got, Answer{resp.StatusCode, resp.Header, string(body)})
	}
}

// Statuses returns the statuses of answers.
func Statuses(answers []Answer) []int {
	list := []int{}
	for _, a := range answers {
		list = append(list, a.Status)
	}
	return list
}
