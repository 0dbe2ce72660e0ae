package gatewaytest

// This file holds a receiver of traces, as OpenTelemetry's collector is one.

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Traces keeps the spans that it receives.
type Traces struct {
	mu    sync.Mutex
	spans []Span
}

// Span is a span, with its ids in hexadecimal and its attributes as texts.
type Span struct {
	Scope, TraceID, ID, Parent, State string
	Name, Kind, Status, Message       string
	Attributes                        map[string]string
	Events                            int
	start                             uint64
	Sent                              string // everything that was sent of it
}

// ReceiveTraces starts a receiver, to which Caddy's directive tracing sends until the test ends. The
// test is not parallel, and loads its configuration with Reload: the directives of a process share
// what was set when the first one was loaded.
func ReceiveTraces(t testing.TB) *Traces {
	t.Helper()
	all := new(Traces)
	file, err := os.Create(newFile(t, "spans"))
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent tracepb.TracesData // with the same fields as the request
		if err == nil {
			err = proto.Unmarshal(body, &sent)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		all.mu.Lock()
		defer all.mu.Unlock()
		_, _ = file.Write(body) // RunMain searches it for secrets
		all.add(&sent)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(func() {
		server.Close()
		file.Close()
	})
	for name, value := range map[string]string{
		"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
		"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL, "OTEL_BSP_SCHEDULE_DELAY": "20",
	} {
		t.Setenv(name, value)
	}
	return all
}

func (a *Traces) add(sent *tracepb.TracesData) {
	for _, resource := range sent.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				span := Span{
					Scope: scope.GetScope().GetName(), TraceID: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()),
					Parent: hex.EncodeToString(s.GetParentSpanId()), State: s.GetTraceState(), Name: s.GetName(),
					Kind: s.GetKind().String(), Status: s.GetStatus().GetCode().String(), Message: s.GetStatus().GetMessage(),
					Attributes: make(map[string]string), Events: len(s.GetEvents()), start: s.GetStartTimeUnixNano(), Sent: s.String(),
				}
				for _, pair := range s.GetAttributes() {
					span.Attributes[pair.GetKey()] = text(pair.GetValue())
				}
				a.spans = append(a.spans, span)
			}
		}
	}
}

func text(v *commonpb.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	default:
		return fmt.Sprint(v)
	}
}

// All returns the spans of a trace, or of all traces if id is "", that have ended so far.
func (a *Traces) All(id string) (spans []Span) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.spans {
		if id == "" || s.TraceID == id {
			spans = append(spans, s)
		}
	}
	return spans
}

// Tree draws spans as a tree, in the order in which they began: each by its name, its kind, the status of
// the answer and, of a span that failed, its message. The span of another process is drawn as "from" and
// its id.
func Tree(spans []Span) string {
	slices.SortStableFunc(spans, func(a, b Span) int { return cmp.Compare(a.start, b.start) })
	known := make(map[string]bool)
	for _, s := range spans {
		known[s.ID] = true
	}
	var b strings.Builder
	var draw func(parent, indent string)
	draw = func(parent, indent string) {
		for _, s := range spans {
			if s.Parent != parent {
				continue
			}
			fmt.Fprintf(&b, "%s%s %s %s", indent, s.Name, strings.ToLower(strings.TrimPrefix(s.Kind, "SPAN_KIND_")), s.Attributes["http.response.status_code"])
			if s.Status == "STATUS_CODE_ERROR" {
				b.WriteString(" error " + s.Message)
			}
			b.WriteString("\n")
			draw(s.ID, indent+"  ")
		}
	}
	roots := make(map[string]bool)
	for _, s := range spans {
		if !known[s.Parent] && !roots[s.Parent] {
			roots[s.Parent] = true
			if s.Parent != "" {
				b.WriteString("from " + s.Parent + "\n")
			}
			draw(s.Parent, "  ")
		}
	}
	return b.String()
}

// Wait waits until a trace has spans with these names, and returns all that it has then.
func (a *Traces) Wait(t testing.TB, id string, names ...string) (spans []Span) {
	t.Helper()
	hasAll := func() bool {
		spans = a.All(id)
		return !slices.ContainsFunc(names, func(name string) bool {
			return !slices.ContainsFunc(spans, func(s Span) bool { return s.Name == name })
		})
	}
	require.Eventually(t, hasAll, 10*time.Second, 10*time.Millisecond, "%v", names)
	return spans
}
