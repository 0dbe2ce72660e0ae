package acceptance

// This file holds tests of how secrets are changed while the gateway works: a signing key over two nodes, as
// docs/operations.md says, and a secret whose file was written anew.

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// node is a gateway in a process of its own that has the API and the shop in common with others.
type node struct {
	gatewaytest.Gateway
	admin, config string
}

// startNodes starts gateways with the same configuration, each with its own addresses and ledger.
func startNodes(t *testing.T, count int, g *gatewaytest.Gateway, config string) []*node {
	t.Helper()
	nodes := make([]*node, count)
	for i := range nodes {
		n := &node{Gateway: *g, admin: gatewaytest.Address(t)}
		n.HTTP = gatewaytest.Redialing(g.HTTP)
		n.Inside, n.Outside = "http://"+gatewaytest.Address(t), "http://"+gatewaytest.Address(t)
		n.LogFile, n.Ledger = gatewaytest.LogFile(t), gatewaytest.LedgerFile(t)
		n.config = strings.NewReplacer("\n"+g.Inside+" {", "\n"+n.Inside+" {", "\n"+g.Outside+" {", "\n"+n.Outside+" {",
			"admin off", "admin "+n.admin, g.LogFile, n.LogFile, g.Ledger, n.Ledger).Replace(config)
		gatewaytest.StartProcess(t, n.config)
		nodes[i] = n
	}
	return nodes
}

// reload does what `caddy reload` does, and with force what it does with --force.
func (n *node) reload(t *testing.T, config string, force bool) {
	t.Helper()
	adapted, _, err := gatewaytest.AdaptCaddyfile(config)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.admin+"/load", strings.NewReader(string(adapted)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	if force {
		r.Header.Set("Cache-Control", "must-revalidate")
	}
	require.Equal(t, http.StatusOK, n.Send(t, r).Status)
}

// confirm sends a barcode's confirm webhook to this node, whichever has issued it.
func (n *node) confirm(t *testing.T, i gatewaytest.Issued) int {
	t.Helper()
	i.ConfirmURL = n.Outside + i.ConfirmURL[strings.Index(i.ConfirmURL, "/cvs/confirm"):]
	return n.Confirm(t, i).Status
}

// secretFile writes a secret into a file, and returns its path.
func secretFile(t *testing.T, path, secret string) string {
	t.Helper()
	gatewaytest.AddSecret(secret)
	require.NoError(t, os.WriteFile(path, []byte(secret), 0o600))
	return path
}

// A signing key is replaced on one node after the other, while each of them issues barcodes whose webhooks any
// of them may get. In two steps none is lost. In one step, a node that has only the old key refuses what the
// others sign. The gateway begins without a signing key: then the key is that of imp_secret.
func TestSigningKeyIsReplacedInTwoSteps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newKey := "{file." + secretFile(t, filepath.Join(dir, "key"), "the-new-signing-key-of-the-test") + "}"
	const before, derived = "# no signing_key", "{env.CVS_TEST_SECRET}"
	oldThenNew, newThenOld, newAlone := "signing_key "+derived+" "+newKey, "signing_key "+newKey+" "+derived, "signing_key "+newKey
	for name, c := range map[string]struct {
		steps []string
		loses bool
	}{
		"two steps":                  {[]string{oldThenNew, newThenOld}, false},
		"one step":                   {[]string{newThenOld}, true},
		"two steps, the old removed": {[]string{oldThenNew, newThenOld, newAlone}, true}, // while barcodes are open
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Account: before})
			nodes := startNodes(t, 2, g, config)
			var issued []gatewaytest.Issued
			sent, lost := 0, 0
			tills := func() {
				for _, n := range nodes {
					issued = append(issued, n.MustIssue(t, fmt.Sprintf("order-%d", len(issued))))
				}
				for _, i := range issued {
					for _, n := range nodes {
						if sent++; n.confirm(t, i) != http.StatusOK {
							lost++
						}
					}
				}
			}
			tills()
			for _, step := range c.steps {
				for _, n := range nodes {
					n.reload(t, strings.Replace(n.config, before, step, 1), false)
					tills()
				}
			}
			t.Logf("%d of %d webhooks were refused", lost, sent)
			assert.Equal(t, c.loses, lost > 0, "%d of %d webhooks were refused", lost, sent)
		})
	}
}

// The configuration has the name of a secret's file, and not what is in it: Caddy sees no change.
func TestChangedSecretNeedsForce(t *testing.T) {
	t.Parallel()
	path := secretFile(t, filepath.Join(t.TempDir(), "key"), "the-first-signing-key-of-the-test")
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Account: "signing_key {file." + path + "}"})
	n := startNodes(t, 1, g, config)[0]
	first := n.MustIssue(t, "order-1")
	secretFile(t, path, "the-second-signing-key-of-the-test")
	n.reload(t, n.config, false)
	assert.Equal(t, http.StatusOK, n.confirm(t, first), "a reload changes nothing")
	n.reload(t, n.config, true)
	assert.Equal(t, http.StatusForbidden, n.confirm(t, first), "with force the other key is known alone")
	assert.Equal(t, http.StatusOK, n.confirm(t, n.MustIssue(t, "order-2")))
}
