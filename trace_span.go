package caddycvs

// This file holds what a span says of a request: its name and its attributes, by OpenTelemetry's semantic
// conventions for HTTP clients.

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	otelattr "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// The attributes of this module's own.
const (
	operationName = otelattr.Key("cvs.operation")
	checkName     = otelattr.Key("cvs.order_check")
)

// redacted is the word of the semantic conventions for a value that is left out of a URL.
const redacted = "REDACTED"

// spanKind is what the spans of the requests to one place have in common. Nothing in it is about an
// order, and nothing is a secret.
type spanKind struct {
	template string            // of the path, "" if it is unknown
	expected int               // a status above 399 that is an answer, and no error
	own      otelattr.KeyValue // of this module
}

// describe returns the kind whatever the request is.
func (k *spanKind) describe(*http.Request) spanKind { return *k }

// name is the span's name: the method, and the path's template if it is known.
func (k *spanKind) name(r *http.Request) string {
	method := knownMethod(r.Method)
	if method == semconv.HTTPRequestMethodOther.Value.AsString() {
		method = "HTTP"
	}
	if k.template == "" {
		return method
	}
	return method + " " + k.template
}

// attributes are those that are known before the request is sent. The URL has neither the query nor a
// value in its path.
func (k *spanKind) attributes(r *http.Request) []otelattr.KeyValue {
	path := "/" + redacted
	if k.template != "" {
		path = redact(k.template)
	}
	list := append(make([]otelattr.KeyValue, 0, 6),
		semconv.HTTPRequestMethodKey.String(knownMethod(r.Method)),
		semconv.URLFull(r.URL.Scheme+"://"+r.URL.Host+path),
		semconv.ServerAddress(r.URL.Hostname()), semconv.ServerPort(portOf(r.URL)))
	if k.template != "" {
		list = append(list, semconv.URLTemplate(k.template))
	}
	if k.own.Valid() {
		list = append(list, k.own)
	}
	return list
}

// setStatus adds an answer's status to a span.
func (k *spanKind) setStatus(span trace.Span, status int) {
	span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	if status >= http.StatusBadRequest && status != k.expected {
		span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
		span.SetStatus(codes.Error, "")
	}
}

// setFailed adds the cause of a failure to a span. The error's own text could have anything in it.
func setFailed(span trace.Span, err error) {
	name := client.Cause(err)
	span.SetAttributes(semconv.ErrorTypeKey.String(name))
	span.SetStatus(codes.Error, name)
}

func endFailed(span trace.Span, err error) {
	setFailed(span, err)
	span.End()
}

// spanTemplate returns the path of a configured URL with its placeholders as they are written: the
// value of one may be a secret, or an order's number. A host that is a placeholder is left out with
// everything before the first slash behind it.
func spanTemplate(rawURL string) string {
	_, rest, found := strings.Cut(rawURL, "://")
	if !found {
		rest = rawURL
	}
	rest, _, _ = strings.Cut(rest, "?")
	depth := 0
	for i, c := range rest {
		switch {
		case c == '{':
			depth++
		case c == '}':
			depth--
		case c == '/' && depth == 0:
			return rest[i:]
		}
	}
	return "/"
}

// redact replaces the placeholders of a template.
func redact(template string) string {
	var b strings.Builder
	for template != "" {
		literal, rest, found := strings.Cut(template, "{")
		b.WriteString(literal)
		if !found {
			break
		}
		b.WriteString(redacted)
		_, template, _ = strings.Cut(rest, "}")
	}
	return b.String()
}

// knownMethod returns a method of the semantic conventions, or "_OTHER".
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodHead, http.MethodOptions, http.MethodConnect, http.MethodTrace, "QUERY":
		return method
	default:
		return semconv.HTTPRequestMethodOther.Value.AsString()
	}
}

func portOf(u *url.URL) int {
	if port, err := strconv.Atoi(u.Port()); err == nil {
		return port
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

func protocolVersion(resp *http.Response) string {
	if resp.ProtoMajor == 1 {
		return "1." + strconv.Itoa(resp.ProtoMinor)
	}
	return strconv.Itoa(resp.ProtoMajor)
}
