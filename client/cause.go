package client

// This file holds how the cause of a failure is described. A description has what an
// operator needs, and no text of the transport's error, which can repeat bytes of the
// answer.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// CauseUnknown is the Cause of an error of which nothing is known.
const CauseUnknown = "the exchange failed"

// Cause names the cause of a failed request: of one of this package's errors, or of the
// error of an http.RoundTripper. It distinguishes DNS, connecting, TLS, a broken
// connection, a time-out and another server's answer. It repeats nothing of the request
// or the answer.
func Cause(err error) string {
	if err == nil {
		return ""
	}
	if token, ok := errors.AsType[*tokenError](err); ok {
		return Cause(token.cause)
	}
	if failed, ok := errors.AsType[*failure](err); ok {
		return Cause(failed.cause)
	}
	if refusal, ok := errors.AsType[*APIError](err); ok { // without its message, which may repeat a value of the request
		return fmt.Sprintf("code %d, HTTP %d", refusal.Code, refusal.Status)
	}
	for _, find := range []func(error) string{connectingCause, tlsCause, answerCause, brokenCause} {
		if cause := find(err); cause != "" {
			return cause
		}
	}
	return CauseUnknown
}

// has returns a function that reports whether an error's text contains a text of net or
// net/http. It is for errors that have no type of their own, and for a transport that
// hides the type of an error.
func has(err error) func(string) bool {
	text := err.Error()
	return func(part string) bool { return strings.Contains(text, part) }
}

// connectingCause describes errors before there was a connection.
func connectingCause(err error) string {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	has := has(err)
	hidden := !isOp && has("dial ")
	is := func(errno syscall.Errno) bool { return errors.Is(err, errno) || hidden && has(errno.Error()) }
	switch {
	case isDNS && dns.IsNotFound, hidden && has("no such host"):
		return "no such host name (DNS)"
	case isDNS, hidden && has(": lookup "):
		return "the host name cannot be resolved (DNS)"
	case !hidden && (!isOp || op.Op != "dial" && op.Op != "proxyconnect"):
		return ""
	case is(syscall.ECONNREFUSED):
		return "connection refused"
	case is(syscall.EHOSTUNREACH), is(syscall.ENETUNREACH):
		return "no route to the host"
	case is(syscall.ENOENT):
		return "there is no such socket"
	case is(syscall.EACCES):
		return "the socket's permissions refuse it"
	case isOp && op.Timeout(), hidden && has("i/o timeout"):
		return "connecting timed out"
	default:
		return "connecting failed"
	}
}

// tlsCause describes errors of a TLS handshake. The other side reports its own as an alert.
func tlsCause(err error) string {
	_, isAuthority := errors.AsType[x509.UnknownAuthorityError](err)
	_, isHost := errors.AsType[x509.HostnameError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, isAlert := errors.AsType[tls.AlertError](err)
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case isAuthority:
		return "TLS: the certificate is signed by an unknown authority"
	case isHost:
		return "TLS: the certificate is for another host name"
	case isInvalid && invalid.Reason == x509.Expired:
		return "TLS: the certificate has expired or is not valid yet"
	case isInvalid, isCertificate:
		return "TLS: the certificate is not valid"
	case isRecord, errors.Is(err, http.ErrSchemeMismatch):
		return "TLS: the other side does not speak it"
	case isAlert, isOp && op.Op == "remote error":
		return "TLS: the other side refused the handshake"
	case isOp && op.Op == "local error":
		return "TLS: the handshake failed"
	default:
		return ""
	}
}

// answerCause describes an answer that is not the API's, or that came too late.
func answerCause(err error) string {
	foreign, isForeign := errors.AsType[*NotAPIError](err)
	switch {
	case errors.Is(err, errTooLarge):
		return errTooLarge.Error()
	case isForeign:
		return foreign.Error()
	case errors.Is(err, ErrNotAPI):
		return ErrNotAPI.Error()
	case IsTimeout(err):
		return "timed out"
	case errors.Is(err, context.Canceled):
		return "canceled"
	default:
		return ""
	}
}

// brokenCause describes a connection that broke.
func brokenCause(err error) string {
	has := has(err)
	_, isOp := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED),
		has("stream error: "), has("http2: server sent GOAWAY"):
		return "the connection was reset"
	case has("http2: client connection lost"):
		return "the connection is dead: a ping was not answered"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), has("server closed idle connection"):
		return "the connection was closed before the answer was whole"
	case has("malformed "):
		return "the answer is not HTTP"
	case isOp:
		return "the connection broke"
	default:
		return ""
	}
}
