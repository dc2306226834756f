package main

import (
	"strings"
	"testing"
)

const stream = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"quiet\n"}
{"Action":"pass","Package":"a","Test":"TestOne","Elapsed":0.1}
{"Action":"output","Package":"a","Output":"PASS\n"}
{"Action":"pass","Package":"a","Elapsed":0.25}
{"Action":"output","Package":"b","Test":"TestTwo","Output":"    b_test.go:7: wrong\n"}
{"Action":"fail","Package":"b","Test":"TestTwo","Elapsed":2}
{"Action":"output","Package":"b","Test":"TestThree","Output":"    b_test.go:9: no backend\n"}
{"Action":"skip","Package":"b","Test":"TestThree"}
{"Action":"output","Package":"b","Output":"FAIL\n"}
{"Action":"fail","Package":"b","Elapsed":3}
{"ImportPath":"c [c.test]","Action":"build-output","Output":"c/c.go:1: bad\n"}
{"ImportPath":"c [c.test]","Action":"build-fail"}
{"Action":"output","Package":"c","Output":"FAIL c [build failed]\n"}
{"Action":"fail","Package":"c","FailedBuild":"c [c.test]"}
`

func sum(t *testing.T, text string, verbose, ci bool) (string, bool) {
	t.Helper()
	var out strings.Builder
	s := summary{out: &out, verbose: verbose}
	if err := s.read(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	ok := s.finish(ci)
	return out.String(), ok
}

func TestTheSummaryShowsFailuresAndCounts(t *testing.T) {
	got, ok := sum(t, stream, false, false)
	want := `ok    a                                            0.2s     1 passed
FAIL  b TestTwo 2.0s
    b_test.go:7: wrong
FAIL  b 3.0s
FAIL
c/c.go:1: bad
FAIL  c 0.0s
FAIL c [build failed]
SKIP  b TestThree
    b_test.go:9: no backend
1 skipped
1 passed, 2 failed
`
	if got != want || ok {
		t.Errorf("ok %v\n%s\nwant\n%s", ok, got, want)
	}
}

func TestVerbosePrintsOutputAsItComes(t *testing.T) {
	got, _ := sum(t, stream, true, false)
	if !strings.HasPrefix(got, "quiet\nPASS\n    b_test.go:7: wrong\nFAIL  b TestTwo 2.0s\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestWhatATestSaidThatHasNoEndIsShown(t *testing.T) {
	got, ok := sum(t, `{"Action":"output","Package":"a","Test":"TestHangs","Output":"=== RUN TestHangs\n"}
{"Action":"output","Package":"a","Test":"TestHangs","Output":"goroutine 1\n"}
{"Action":"fail","Package":"a","Elapsed":9}
`, false, false)
	if want := "NO END  a TestHangs\n=== RUN TestHangs\ngoroutine 1\nFAIL  a 9.0s\n0 passed, 1 failed\n"; got != want || ok {
		t.Errorf("ok %v\n%s\nwant\n%s", ok, got, want)
	}
}

func TestWhatIsNotAnEventIsPassedOn(t *testing.T) {
	got, ok := sum(t, "go: downloading x\n"+stream[:strings.Index(stream, `{"Action":"output","Package":"b"`)], false, true)
	if !strings.HasPrefix(got, "go: downloading x\n") || !strings.HasSuffix(got, "\n1 passed, 0 failed\n") || !ok {
		t.Errorf("ok %v\n%s", ok, got)
	}
}

func TestSkippedOrNoTestsDoNotPassInCI(t *testing.T) {
	skipped := `{"Action":"pass","Package":"a","Test":"TestOne"}
{"Action":"skip","Package":"a","Test":"TestTwo"}
`
	if _, ok := sum(t, skipped, false, false); !ok {
		t.Error("a skipped test fails outside CI")
	}
	if _, ok := sum(t, skipped, false, true); ok {
		t.Error("a skipped test passes in CI")
	}
	if _, ok := sum(t, "", false, false); ok {
		t.Error("nothing at all passes")
	}
}
