//go:build !race

package acceptance

// This file holds the other programs that a run starts as gateways: with a line of the product changed, of
// the commit before, or with a wrong clock. Each is built.

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// buildGateway builds this test's binary, which is the gateway too, of the tree at a directory, with other
// content of some files. The tree stays as it is.
func buildGateway(t *testing.T, tree string, changed map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	replace := make(map[string]string)
	for file, content := range changed {
		replace[file] = filepath.Join(dir, filepath.Base(file))
		require.NoError(t, os.WriteFile(replace[file], []byte(content), 0o600))
	}
	overlay, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "gateway")
	list, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, list, 0o600))
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet", "off", "-overlay", overlay, "-o", program, ".")
	build.Dir = filepath.Join(tree, "internal", "acceptance")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return program
}

// ownTree returns the directory of this tree.
func ownTree(t *testing.T) string {
	t.Helper()
	tree, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	return tree
}

// clockVariable says in the environment of a gateway by how much its clock is wrong.
const clockVariable = "CVS_TEST_CLOCK"

// wrongClock changes package time so that the wall clock is wrong by what clockVariable says. libfaketime
// cannot do that: a program in Go asks the kernel for the time. The monotonic clock stays right, as that
// of a machine does whose clock is wrong.
func wrongClock(t *testing.T) map[string]string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	require.NoError(t, err)
	file := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	const line = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n"
	require.Equal(t, 1, strings.Count(string(source), line), "time.Now has other lines now")
	by := strings.Replace(line, "runtimeNow()\n", "runtimeNow()\n\tsec += wrongBy\n", 1)
	return map[string]string{
		file: strings.Replace(string(source), line, by, 1),
		filepath.Join(filepath.Dir(file), "wrong.go"): `package time

import "syscall"

var wrongBy = func() int64 {
	text, _ := syscall.Getenv("` + clockVariable + `")
	wrong, _ := ParseDuration(text)
	return int64(wrong / Second)
}()
`,
	}
}

// oldTree returns a directory with the tree of the commit before, or this one and why it cannot be another one.
func oldTree(t *testing.T) (tree, why string) {
	t.Helper()
	dir := t.TempDir()
	archive := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", `git archive "$0" | tar -x -C "$1"`, *oldRevision, dir)
	archive.Dir = ownTree(t)
	if archive.Run() != nil {
		return ownTree(t), "is not in this clone"
	}
	if _, err := os.Stat(filepath.Join(dir, "client", "ledger", "sqlstore")); err != nil {
		return ownTree(t), "keeps no ledger in a database"
	}
	return dir, ""
}

// takeVersions has all gateways begin with the commit before, and the last one have a wrong clock. The
// builds take minutes.
func (gs *gateways) takeVersions(t *testing.T) {
	t.Helper()
	own, clock := ownTree(t), wrongClock(t)
	old, why := oldTree(t)
	gs.upgradedFrom = *oldRevision
	if why != "" {
		gs.upgradedFrom = "itself: " + *oldRevision + " " + why
	}
	before, last := buildGateway(t, old, nil), gs.list[len(gs.list)-1]
	for _, gw := range gs.list {
		gw.versions = [2]string{before, ""}
	}
	last.versions = [2]string{buildGateway(t, old, clock), buildGateway(t, own, clock)}
	wrong := 10 * time.Minute
	if *seed%2 == 0 {
		wrong = -wrong
	}
	last.env = append(last.env, clockVariable+"="+wrong.String())
	for _, gw := range gs.list {
		gw.program = gw.versions[0]
	}
}
