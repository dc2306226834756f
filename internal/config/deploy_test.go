package config

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

type composeService struct {
	Image       string            `yaml:"image"`
	Build       string            `yaml:"build"`
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	Healthcheck struct {
		Test        []string `yaml:"test"`
		Interval    string   `yaml:"interval"`
		Timeout     string   `yaml:"timeout"`
		StartPeriod string   `yaml:"start_period"`
		Retries     int      `yaml:"retries"`
	} `yaml:"healthcheck"`
	DependsOn map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Restart         string   `yaml:"restart"`
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	StopGracePeriod string   `yaml:"stop_grace_period"`
}

type composeFile struct {
	Name     string                    `yaml:"name"`
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
}

// readCompose reads docker-compose.yml strictly, with the variables that its users
// give, as `docker compose config` does.
func readCompose(t *testing.T, lookup func(string) (string, bool)) composeFile {
	t.Helper()
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`\$\{([A-Z_]+):\?[^}]*\}`) // like ${NAME}, with a message
	plain, err := expand(required.ReplaceAllString(string(text), "$${$1}"), lookup)
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	if err := yaml.UnmarshalWithOptions([]byte(plain), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestComposeGivesTheGatewayAConfigurationThatLoads(t *testing.T) {
	file := readCompose(t, env("POSTGRES_PASSWORD", "x"))
	gateway := file.Services["gateway"]
	known := map[string]bool{}
	for _, e := range environ {
		known[e.name] = true
	}
	for name := range gateway.Environment {
		if !known[name] {
			t.Errorf("the gateway gets %s, which nobody reads", name)
		}
	}
	c, err := Load("../../config.yaml", func(name string) (string, bool) { v, ok := gateway.Environment[name]; return v, ok }, "")
	if err != nil {
		t.Fatal(err)
	}
	db := file.Services["db"]
	if c.Backend.Host != "db" || c.Backend.Database != db.Environment["POSTGRES_DB"] || c.Backend.User != db.Environment["POSTGRES_USER"] ||
		string(c.Backend.Password) != db.Environment["POSTGRES_PASSWORD"] || string(c.Backend.Password) != "x" {
		t.Errorf("the gateway and the database do not agree: %s, %v", c, db.Environment)
	}
	if c.HTTP != "0.0.0.0:8432" || c.Listen != ":6432" {
		t.Errorf("listens on %s and %s", c.Listen, c.HTTP)
	}
}

func TestComposeChecksHealthAndPublishesOnLoopbackOnly(t *testing.T) {
	file := readCompose(t, env("POSTGRES_PASSWORD", "x"))
	if !strings.HasPrefix(file.Services["db"].Image, "timescale/timescaledb-ha:pg17") {
		t.Errorf("the database is %s, which may have no pgvector", file.Services["db"].Image)
	}
	if file.Services["gateway"].DependsOn["db"].Condition != "service_healthy" {
		t.Error("the gateway does not wait for the database")
	}
	for name, s := range file.Services {
		h := s.Healthcheck
		if len(h.Test) < 2 || h.Interval == "" || h.Timeout == "" || h.StartPeriod == "" || h.Retries == 0 {
			t.Errorf("%s has no whole health check: %+v", name, h)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s publishes %s", name, port)
			}
		}
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			if _, ok := file.Volumes[volume]; !ok {
				t.Errorf("%s mounts %s, which is not declared", name, v)
			}
		}
	}
	grace, err := parseDuration(file.Services["gateway"].StopGracePeriod)
	if err != nil || grace <= Default().Limits.ShutdownTimeout {
		t.Errorf("stopping has %s, a shutdown may take %s", grace, Default().Limits.ShutdownTimeout)
	}
}

func TestDockerfileBuildsStaticallyAndRunsAsNobody(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	f := func(text, pattern string) []string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Errorf("nothing matches %s", pattern)
		}
		return m
	}
	f(string(text), `(?m)^RUN make static `)
	f(string(makefile), `(?m)-extldflags "-static"`)
	f(string(text), `(?m)^USER 65532:65532$`)
	f(string(text), `(?m)^HEALTHCHECK `)
	f(string(text), `(?m)^EXPOSE 6432 8432$`)
	image, module := f(string(text), `(?m)^FROM golang:(\d+\.\d+)`), f(string(mod), `(?m)^go (\d+\.\d+)`)
	if image != nil && module != nil && image[1] != module[1] {
		t.Errorf("the image has Go %s, the module wants %s", image[1], module[1])
	}
	for _, path := range regexp.MustCompile(`/src/(\S+)`).FindAllStringSubmatch(string(text), -1) {
		if path[1] == "bin/qvpgw" {
			continue // made by the build
		}
		if _, err := os.Stat("../../" + path[1]); err != nil {
			t.Errorf("the image copies %s: %v", path[1], err)
		}
	}
}
