package shops

// This file holds a customer with a phone at each shop, in a real browser.

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// With PICTURES, a folder, the test keeps there what the customer sees.
func TestShopsOnAPhone(t *testing.T) {
	t.Parallel()
	const scripts = "../../.ci/browser"
	node := program(t, "node")
	for _, needed := range []string{"/usr/bin/chromium", filepath.Join(scripts, "node_modules")} {
		if _, err := os.Stat(needed); err != nil {
			t.Skipf("%s is missing: .ci/browser/run installs it", needed)
		}
	}
	for _, of := range list {
		t.Run(of.folder, func(t *testing.T) { // one browser at a time: each uses much of the machine
			s := open(t, of)
			cmd := exec.CommandContext(t.Context(), node, "shop.mjs")
			cmd.Dir, cmd.WaitDelay = scripts, 5*time.Second
			id, p := s.buy(t, "umbrella")
			require.Equal(t, http.StatusOK, s.tell(t, id, s.signed(t, s.news(id, p.ImpUID, tell.Expired))).Status)
			cmd.Env = append(os.Environ(), "SHOP_URL="+s.Outside, "SANDBOX_URL="+s.APIURL, "EXPIRED=/orders/"+id)
			if pictures := os.Getenv("PICTURES"); pictures != "" {
				folder := filepath.Join(pictures, of.folder)
				require.NoError(t, os.MkdirAll(folder, 0o700))
				cmd.Env = append(cmd.Env, "PICTURES="+folder)
			}
			output, err := cmd.CombinedOutput()
			require.NoError(t, err, string(output))
		})
	}
}
