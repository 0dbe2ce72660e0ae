package caddycvs

import (
	"net/http"
	"testing"
)

// BenchmarkJudge evaluates an order check's answer: one reading for its syntax,
// and one until each path is found.
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
