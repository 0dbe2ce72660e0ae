package caddycvs

// This file holds the report of `caddy cvs check`: what is good, what was found, and how both are printed.

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// finding is something that is wrong with a set-up.
type finding struct {
	Severity string `json:"severity"` // "error" or "warning"
	Where    string `json:"where"`
	Message  string `json:"message"` // what is wrong
	Remedy   string `json:"remedy"`  // what to do
	ID       string `json:"id"`      // the same for the same kind of finding
}

const (
	severityError   = "error"   // payments fail, or somebody can abuse the gateway
	severityWarning = "warning" // works, and costs something one day
)

// report is what an inspection says.
type report struct {
	Findings []finding `json:"findings"`
	OK       []string  `json:"ok"`
}

func (r *report) fail(id, where, message, remedy string) {
	r.Findings = append(r.Findings, finding{severityError, where, message, remedy, id})
}

func (r *report) warn(id, where, message, remedy string) {
	r.Findings = append(r.Findings, finding{severityWarning, where, message, remedy, id})
}

func (r *report) good(format string, args ...any) {
	r.OK = append(r.OK, fmt.Sprintf(format, args...))
}

// has reports whether there is a finding of a kind.
func (r *report) has(id string) bool {
	return slices.ContainsFunc(r.Findings, func(f finding) bool { return f.ID == id })
}

// add appends another report. A finding that is the same in all but its place, as for a site with several
// addresses, has a place of its own.
func (r *report) add(other *report) {
	r.OK = append(r.OK, other.OK...)
	for _, f := range other.Findings {
		if !slices.Contains(r.Findings, f) {
			r.Findings = append(r.Findings, f)
		}
	}
}

// printJSON prints the report for programs.
func (r *report) printJSON(w io.Writer) error {
	shown := report{Findings: append([]finding{}, r.Findings...), OK: append([]string{}, r.OK...)}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(shown)
}

const (
	colourGood    = "\x1b[32m"
	colourError   = "\x1b[31m"
	colourWarning = "\x1b[33m"
	colourOff     = "\x1b[0m"
)

// print prints the report for people: what is good, then the warnings, then the errors, which so stand
// nearest to the prompt.
func (r *report) print(w io.Writer, colours bool) error {
	var b strings.Builder
	line := func(colour, mark, text string) {
		if colours {
			mark = colour + mark + colourOff
		}
		b.WriteString(mark + "  " + oneLine(text) + "\n")
	}
	for _, text := range r.OK {
		line(colourGood, "ok", text)
	}
	for _, kind := range []struct{ severity, colour string }{{severityWarning, colourWarning}, {severityError, colourError}} {
		for _, f := range r.Findings {
			if f.Severity == kind.severity {
				line(kind.colour, "!!", kind.severity+": "+f.String())
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String is the finding as a sentence.
func (f finding) String() string {
	text := f.Message
	if f.Where != "" {
		text = f.Where + ": " + text
	}
	if f.Remedy != "" {
		text += ": " + f.Remedy
	}
	return text
}

// oneLine replaces control characters, which an answer of another server could have.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}
