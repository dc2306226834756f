package router

import (
	"os"
	"testing"

	"qvpgw/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
