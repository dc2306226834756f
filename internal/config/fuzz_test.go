package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad holds that no file and no .env makes the loader panic, that it gives
// either a valid Config or Problems, and that a Config it gives prints no secret.
func FuzzLoad(f *testing.F) {
	shipped, err := os.ReadFile("../../config.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(shipped), "POSTGRES_HOST=x\n")
	f.Add("pool: {size: ${A:-3}}\nauth: {users: [{name: a, password: b}]}", "A='4'\n")
	f.Add("a: &x [*x]\n? b\n: - c\n", "export Q=\"\\")
	f.Add("---\n...\n--- |\n x\n", "=")
	f.Fuzz(func(t *testing.T, text, dot string) {
		dir := t.TempDir()
		path, dotenv := filepath.Join(dir, "config.yaml"), filepath.Join(dir, ".env")
		for file, content := range map[string]string{path: text, dotenv: dot} {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, err := Load(path, func(string) (string, bool) { return "", false }, dotenv)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 || c != nil {
				t.Fatalf("error %T with config %v", err, c)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("loaded, but %v", err)
		}
		if p := string(c.Backend.Password); len(p) > 20 && strings.Contains(c.String(), p) {
			t.Fatal("the password is printed")
		}
	})
}
