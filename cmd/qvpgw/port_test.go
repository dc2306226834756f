package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPortInUseStopsTheStartAndSaysWhichSetting(t *testing.T) {
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct{ setting, listen, http, says string }{
		{"listen", taken.Addr().String(), `""`, "cannot listen for PostgreSQL clients"},
		{"http", "127.0.0.1:0", taken.Addr().String(), "cannot listen for HTTP"},
	} {
		t.Run(c.setting, func(t *testing.T) {
			dir := t.TempDir()
			config := fmt.Sprintf("listen: %s\nhttp: %s\nschema:\n  migrate: false\n", c.listen, c.http)
			if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), path, "serve")
			cmd.Dir = dir
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Error("the gateway ended without an error")
			}
			for _, text := range []string{c.says, "address already in use", "change " + c.setting} {
				if !strings.Contains(string(out), text) {
					t.Errorf("it does not say %q:\n%s", text, out)
				}
			}
		})
	}
}
