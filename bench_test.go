package caddycvs

// This file holds benchmarks of functions that are not exported. The others are in
// internal/bench.

import (
	"net/http"
	"testing"
)

// BenchmarkJudge evaluates an order check's answer: it reads it once for its syntax, and once
// for each path.
func BenchmarkJudge(b *testing.B) {
	check := &OrderCheck{Requirements: []Requirement{{"payable", "true"}, {"stock.available", "true"}}, Amount: "total"}
	body := []byte(`{"payable":true,"stock":{"available":true,"left":3},"total":15000}`)
	b.ReportAllocs()
	for b.Loop() {
		if v, why := check.judge(http.StatusOK, body, cause{}, "15000"); v != yes {
			b.Fatal(why)
		}
	}
}
