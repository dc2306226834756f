package config

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Secret is a text that never prints itself; string(s) gives it.
type Secret string

const mask = "********"

// String returns asterisks, or "" for the empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString does for %#v what String does for %v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText does it for encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue does it for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Bytes is a size in bytes.
type Bytes int64

var byteUnits = []struct {
	suffix string
	factor int64
}{
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"B", 1},
	{"", 1},
}

// String gives the largest binary unit that divides b: "64MiB".
func (b Bytes) String() string {
	for _, u := range byteUnits[:3] {
		if b != 0 && int64(b)%u.factor == 0 {
			return strconv.FormatInt(int64(b)/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

func parseBytes(s string) (Bytes, error) {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<63-1)/u.factor {
			break
		}
		return Bytes(n * u.factor), nil
	}
	return 0, fmt.Errorf("%q is not a size; write a whole number with a unit, as 64MiB (B, kB, MB, GB, KiB, MiB, GiB)", s)
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		if _, digits := strconv.Atoi(s); digits == nil {
			return 0, fmt.Errorf("%q has no unit; write %ss for seconds, or %sms, %sm, %sh", s, s, s, s, s)
		}
		return 0, fmt.Errorf("%q is not a duration; write as 500ms, 30s, 5m or 1h30m", s)
	}
	return d, nil
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "on", "yes", "1":
		return true, nil
	case "false", "off", "no", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

// enum is a string type with a closed list of values.
type enum interface{ values() []string }

// names are values as texts.
func names[E ~string](values ...E) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list
}

// parseEnum returns the value of e's list that s names, in the list's spelling.
func parseEnum(e enum, s string) (string, error) {
	want := s
	if _, ok := e.(Toggle); ok {
		if on, err := parseBool(s); err == nil {
			want = map[bool]string{true: string(On), false: string(Off)}[on]
		}
	}
	for _, v := range e.values() {
		if strings.EqualFold(v, want) {
			return v, nil
		}
	}
	return "", fmt.Errorf("%q is not one of %s%s", s, strings.Join(e.values(), ", "), didYouMean(s, e.values()))
}

// LogLevel is the least level that is logged.
type LogLevel string

// The log levels.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

func (LogLevel) values() []string { return names(LogDebug, LogInfo, LogWarn, LogError) }

// Slog is the level as slog counts.
func (l LogLevel) Slog() slog.Level {
	switch l {
	case LogDebug:
		return slog.LevelDebug
	case LogWarn:
		return slog.LevelWarn
	case LogError:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// LogFormat is how a log line looks.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

func (LogFormat) values() []string { return names(LogText, LogJSON) }

// SSLMode is libpq's sslmode for server connections.
type SSLMode string

// The modes, as libpq documents them.
const (
	SSLDisable    SSLMode = "disable"
	SSLAllow      SSLMode = "allow"
	SSLPrefer     SSLMode = "prefer"
	SSLRequire    SSLMode = "require"
	SSLVerifyCA   SSLMode = "verify-ca"
	SSLVerifyFull SSLMode = "verify-full"
)

func (SSLMode) values() []string {
	return names(SSLDisable, SSLAllow, SSLPrefer, SSLRequire, SSLVerifyCA, SSLVerifyFull)
}

// SSLNegotiation is libpq's sslnegotiation for server connections.
type SSLNegotiation string

// Postgres asks the server first, Direct begins TLS at once (PostgreSQL 17).
const (
	SSLPostgres SSLNegotiation = "postgres"
	SSLDirect   SSLNegotiation = "direct"
)

func (SSLNegotiation) values() []string { return names(SSLPostgres, SSLDirect) }

// ChannelBinding is libpq's channel_binding for server connections.
type ChannelBinding string

// The bindings.
const (
	BindDisable ChannelBinding = "disable"
	BindPrefer  ChannelBinding = "prefer"
	BindRequire ChannelBinding = "require"
)

func (ChannelBinding) values() []string { return names(BindDisable, BindPrefer, BindRequire) }

// TLSVersion is the least version of TLS that is spoken with clients.
type TLSVersion string

// The versions.
const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

func (TLSVersion) values() []string { return names(TLS12, TLS13) }

// TLSMode is whether clients may or must use TLS, and show a certificate.
type TLSMode string

// The modes.
const (
	TLSDisable    TLSMode = "disable"
	TLSAllow      TLSMode = "allow"
	TLSPrefer     TLSMode = "prefer"
	TLSRequire    TLSMode = "require"
	TLSVerifyCA   TLSMode = "verify-ca"
	TLSVerifyFull TLSMode = "verify-full"
)

func (TLSMode) values() []string {
	return names(TLSDisable, TLSAllow, TLSPrefer, TLSRequire, TLSVerifyCA, TLSVerifyFull)
}

// Required says whether clients must use TLS.
func (m TLSMode) Required() bool {
	return m == TLSRequire || m.Verified()
}

// Verified says whether clients must show a certificate.
func (m TLSMode) Verified() bool { return m == TLSVerifyCA || m == TLSVerifyFull }

// PoolMode is when a client gives its server connection back.
type PoolMode string

// The pool modes.
const (
	PoolTransaction PoolMode = "transaction"
	PoolSession     PoolMode = "session"
	PoolStatement   PoolMode = "statement"
)

func (PoolMode) values() []string { return names(PoolTransaction, PoolSession, PoolStatement) }

// TargetSession is which of several hosts a server connection may go to, as
// libpq's target_session_attrs.
type TargetSession string

// The choices, as libpq documents them.
const (
	TargetAny           TargetSession = "any"
	TargetReadWrite     TargetSession = "read-write"
	TargetReadOnly      TargetSession = "read-only"
	TargetPrimary       TargetSession = "primary"
	TargetStandby       TargetSession = "standby"
	TargetPreferStandby TargetSession = "prefer-standby"
)

func (TargetSession) values() []string {
	return names(TargetAny, TargetReadWrite, TargetReadOnly, TargetPrimary, TargetStandby, TargetPreferStandby)
}

// LoadBalance is the order in which equal hosts are tried.
type LoadBalance string

// BalanceOff tries them as they are listed, the others spread connections.
const (
	BalanceOff        LoadBalance = "disable"
	BalanceRoundRobin LoadBalance = "round-robin"
	BalanceRandom     LoadBalance = "random"
)

func (LoadBalance) values() []string { return names(BalanceOff, BalanceRoundRobin, BalanceRandom) }

// OnFailure is what clients get while no server connection can be opened.
type OnFailure string

// FailError gives them the server's error at once, FailWait has them wait.
const (
	FailError OnFailure = "error"
	FailWait  OnFailure = "wait"
)

func (OnFailure) values() []string { return names(FailError, FailWait) }

// AuthMethod is how clients prove who they are.
type AuthMethod string

// The methods. Trust asks clients at loopback addresses for nothing, all others
// for SCRAM.
const (
	AuthSCRAM AuthMethod = "scram"
	AuthTrust AuthMethod = "trust"
)

func (AuthMethod) values() []string { return names(AuthSCRAM, AuthTrust) }

// Gear is how clients are driven: on event loops wherever nothing can block, or by
// a goroutine each.
type Gear string

// GearAuto shifts, GearSecond never does.
const (
	GearAuto   Gear = "auto"
	GearSecond Gear = "second"
)

func (Gear) values() []string { return names(GearAuto, GearSecond) }

// RouteMode is what proves that an aggregate is fresh.
type RouteMode string

// RouteStrict asks for settled points and the change log besides TimescaleDB's logs,
// RouteWatermark takes those for the truth.
const (
	RouteStrict    RouteMode = "strict"
	RouteWatermark RouteMode = "watermark"
)

func (RouteMode) values() []string { return names(RouteStrict, RouteWatermark) }

// FloatMode is what happens to sums, averages and variances of floats, whose last
// bits depend on the order of addition.
type FloatMode string

// Reassociate routes them, Exact passes them.
const (
	FloatReassociate FloatMode = "reassociate"
	FloatExact       FloatMode = "exact"
)

func (FloatMode) values() []string { return names(FloatReassociate, FloatExact) }

// CacheMode is how a kept answer is proven to hold.
type CacheMode string

// CacheStrict asks the server after each question came, CacheBounded at most once in
// cache.max_age; CacheOff keeps nothing.
const (
	CacheStrict  CacheMode = "strict"
	CacheBounded CacheMode = "bounded"
	CacheOff     CacheMode = "off"
)

func (CacheMode) values() []string { return names(CacheStrict, CacheBounded, CacheOff) }

// RouteChoice is which of the statements that an aggregate can answer it answers.
type RouteChoice string

// ChoiceCost leaves those to the database whose raw rows are known to be few,
// ChoiceAlways none.
const (
	ChoiceCost   RouteChoice = "cost"
	ChoiceAlways RouteChoice = "always"
)

func (RouteChoice) values() []string { return names(ChoiceCost, ChoiceAlways) }

// RuleMode is what happens to a statement that a rule is about.
type RuleMode string

// The modes of a rule.
const (
	RuleOff    RuleMode = "off"
	RuleWarn   RuleMode = "warn"
	RuleRefuse RuleMode = "refuse"
)

func (RuleMode) values() []string { return names(RuleOff, RuleWarn, RuleRefuse) }

// Toggle is whether an extension is used: Auto when the backend has it, On must
// have it, Off never.
type Toggle string

// The toggles.
const (
	Auto Toggle = "auto"
	On   Toggle = "on"
	Off  Toggle = "off"
)

func (Toggle) values() []string { return names(Auto, On, Off) }
