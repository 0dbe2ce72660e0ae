package caddycvs

import "testing"

func TestMain(m *testing.M) {
	if !play() {
		RunMain(m)
	}
}
