package client_test

// This file holds tests of what counts as an answer of the API.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

func TestListAcceptsLargerAnswer(t *testing.T) {
	t.Parallel()
	large := succeed(strings.Repeat(" ", 2<<20) + `{"total":1,"previous":0,"next":0,"list":[{"imp_uid":"imp_1"}]}`)
	c := newClient(t, newServer(t, &scriptedAPI{other: large}).URL)
	found, err := c.ListPayments(context.Background(), client.StatusAll, client.ListOptions{})
	require.NoError(t, err)
	assert.Equal(t, "imp_1", found.List[0].ImpUID)
	_, err = c.Payment(context.Background(), "imp_1")
	assert.Error(t, err)
}

// The end of an answer may come in a frame of its own. If the client stopped reading
// before, it would cancel what the server still does.
func TestAnswersAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	var left atomic.Int32
	ended := make(chan struct{}, 3)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().Unix()
		body := fmt.Sprintf(`{"code":0,"message":null,"response":{"access_token":"t","now":%d,"expired_at":%d,"imp_uid":"imp_1"}}`, now, now+1800)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			left.Add(1)
		case <-time.After(20 * time.Millisecond): // the work after the answer
		}
		ended <- struct{}{}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c := newClient(t, server.URL, transport(server.Client().Transport))
	for range 2 {
		_, err := c.Do(context.Background(), client.PaymentRequest("imp_1"))
		require.NoError(t, err)
	}
	for range 3 { // a token and two payments
		<-ended
	}
	assert.Zero(t, left.Load())
}

// Only the number 0 is success.
func TestOnlyCodeZeroIsSuccess(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]int64{
		"0": 0, "-0": 0, "0.0": 0, "0e7": 0,
		"1": 1, "-1": -1, "1e2": 100, "-0.5": -1, "0.4": -1, "1e-300": -1, "1e300": -1, "9223372036854775808": -1, "1e-400": -1,
	} {
		api := &scriptedAPI{
			issue: answer(200, strict.JSON, `{"code":`+code+`,"message":"no","response":{"imp_uid":"imp_1","amount":1}}`),
			find:  missing,
		}
		c := newClient(t, newServer(t, api).URL)
		resp, err := c.IssueRaw(context.Background(), order(t, "o"))
		require.NoError(t, err, code)
		assert.Equal(t, want, resp.Code, code)
		assert.Equal(t, want == 0, resp.Err() == nil, code)
	}
}

// After a 101 no context ends the connection: the client must not wait for more.
func TestSwitchingProtocolsIsNoAnswer(t *testing.T) {
	t.Parallel()
	switching := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	}
	api := &scriptedAPI{issue: switching, find: missing, other: switching}
	c := newClient(t, newServer(t, api).URL, timeout(brief))
	began := time.Now()
	_, err := c.Payment(context.Background(), "imp_1")
	require.ErrorIs(t, err, client.ErrNotAPI)
	assert.Less(t, time.Since(began), brief)
	_, err = c.IssueRaw(context.Background(), order(t, "o"))
	require.ErrorIs(t, err, client.ErrOutcomeUnknown, "who knows what it does with what it was sent")
	assert.EqualValues(t, 1, api.posts.Load())

	now := time.Now().Unix()
	api = &scriptedAPI{other: missing, token: inTurn(switching, succeed(fmt.Sprintf(`{"access_token":"t","now":%d,"expired_at":%d}`, now, now+1800)))}
	c = newClient(t, newServer(t, api).URL, timeout(brief))
	require.Eventually(t, func() bool {
		_, err = c.Payment(context.Background(), "imp_1")
		return errors.Is(err, client.ErrNotFound)
	}, 10*time.Second, 50*time.Millisecond, "a token is asked for again")
}

func TestResponseErr(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status int
		code   int64
		fails  bool
	}{{200, 0, false}, {201, 0, false}, {200, 1, true}, {200, -1, true}, {400, 0, true}, {500, -1, true}, {404, 0, true}} {
		r := &client.Response{Status: tc.status, Code: tc.code, Body: []byte(`{"message":"글","response":{"imp_uid":"imp_1"}}`)}
		_, err := r.Payment()
		assert.Equal(t, err, r.Err())
		assert.Equal(t, tc.fails, err != nil, "%+v", tc)
		assert.Equal(t, tc.status == 404, errors.Is(err, client.ErrNotFound))
		if tc.fails {
			assert.Equal(t, &client.APIError{Status: tc.status, Code: tc.code, Message: "글"}, err)
		}
	}
}
