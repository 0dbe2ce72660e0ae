package caddycvs

// This file holds the answer of an order check while it is being written.

import (
	"bytes"
	"io"
	"net/http"
	"sync"
)

// reply is the answer of an order check as far as it has come. It is written by one
// goroutine, which may be deaf to its context, and read by another, which does not
// wait for it any longer than it must. A route's handlers write it as an
// http.ResponseWriter.
type reply struct {
	header http.Header
	done   chan struct{} // closed when nothing more comes

	mu     sync.Mutex
	status int
	body   bytes.Buffer
	broken why // why the answer is not whole
}

func newReply() *reply {
	return &reply{header: make(http.Header), done: make(chan struct{}), broken: why{cause: causeTimeout}}
}

// soFar returns what came. The body is of use as a whole only, unless the status has
// decided already.
func (r *reply) soFar() (status int, body []byte, broken why) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status, bytes.Clone(r.body.Bytes()), r.broken
}

// pending sets what holds if the time is over now.
func (r *reply) pending(broken why) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = broken
}

// end notes that nothing more comes, and why, if the answer is not whole.
func (r *reply) end(broken why) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body.Len() > maxCheckAnswer {
		broken = why{cause: causeTooLarge}
	}
	r.broken = broken
	close(r.done)
}

// fail puts an error in the place of what was written.
func (r *reply) fail(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
	r.body.Reset()
}

// read reads a response.
func (r *reply) read(resp *http.Response) why {
	defer resp.Body.Close()
	if resp.StatusCode < 200 { // 101: what follows is no answer, and ends with no context
		return why{cause: causeServerError}
	}
	r.pending(why{cause: causeTimeout})
	r.WriteHeader(resp.StatusCode)
	body, err := readAll(io.LimitReader(resp.Body, maxCheckAnswer+1), resp.ContentLength)
	_, _ = r.Write(body)
	if err != nil {
		return failed(err)
	}
	return why{}
}

func (r *reply) Header() http.Header { return r.header }

func (r *reply) WriteHeader(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writeHeader(status)
}

func (r *reply) writeHeader(status int) {
	if r.status == 0 && status >= 200 { // 1xx is not an answer yet
		r.status = status
	}
}

// Write keeps a byte more than may come. The rest is not needed, but no reason to break
// off.
func (r *reply) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writeHeader(http.StatusOK)
	room := maxCheckAnswer + 1 - r.body.Len()
	_, _ = r.body.Write(p[:min(len(p), room)])
	return len(p), nil
}
