package acceptance

// This file holds the start of the tests.

import (
	"testing"

	_ "github.com/caddy-cvs/caddy-cvs"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestMain(m *testing.M) {
	if serveAsStoreUser() || serveAsReader() {
		return
	}
	gatewaytest.RunMain(m)
}
