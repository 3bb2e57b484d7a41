// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

// generous is for what happens at once on any machine that is not stuck.
const generous = time.Minute

// socketName is short enough for the address of a socket, other than the
// directories of tests.
func socketName(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "log")
}

// A syslogd is one that takes datagrams, when it is asked to.
type syslogd struct {
	*net.UnixConn
	t *testing.T
}

func startSyslogd(t *testing.T, socket string) *syslogd {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &syslogd{c, t}
}

func (s *syslogd) stop(socket string) {
	s.t.Helper()
	s.Close()
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
}

// next returns the next message, or "" if none comes in time.
func (s *syslogd) next(within time.Duration) string {
	s.t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(within)); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, err := s.Read(b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

func TestSyslogGetsSeverityAndIdentifier(t *testing.T) {
	tests := []struct {
		level    logrus.Level
		priority int // facility daemon (3) times 8, and the severity
	}{
		{logrus.PanicLevel, 26},
		{logrus.FatalLevel, 26},
		{logrus.ErrorLevel, 27},
		{logrus.WarnLevel, 28},
		{logrus.InfoLevel, 30},
		{logrus.DebugLevel, 31},
		{logrus.TraceLevel, 31},
	}
	socket := socketName(t)
	d := startSyslogd(t, socket)
	log := open(t, logging.Options{Program: "vxsnd", Level: logrus.TraceLevel, Kind: logging.Syslog}.WithSocket(socket))
	for _, tt := range tests {
		t.Run(tt.level.String(), func(t *testing.T) {
			log.WithField("vni", 100).Log(tt.level, "some words")
			got := d.next(generous)
			want := regexp.MustCompile(fmt.Sprintf(`^<%d>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d vxsnd\[%d\]: level=%s msg="some words" vni=100$`,
				tt.priority, os.Getpid(), tt.level))
			if !want.MatchString(got) {
				t.Errorf("got %q, want a match of %s", got, want)
			}
		})
	}
}

func TestSyslogGetsJSON(t *testing.T) {
	socket := socketName(t)
	d := startSyslogd(t, socket)
	log := open(t, logging.Options{Program: "vxsnd", JSON: true, Kind: logging.Syslog}.WithSocket(socket))
	log.Info("one\ntwo")
	_, text, _ := strings.Cut(d.next(generous), "]: ")
	var got struct{ Msg string }
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.Msg != "one\ntwo" || strings.Contains(text, "\n") {
		t.Errorf("got %q (%v), want one line of JSON with both lines", text, err)
	}
}

func TestSyslogLineIsBoundedAndHasNoControlCharacters(t *testing.T) {
	for _, form := range []bool{false, true} {
		socket := socketName(t)
		d := startSyslogd(t, socket)
		log := open(t, logging.Options{Program: "vxsnd", JSON: form, Kind: logging.Syslog}.WithSocket(socket))
		log.WithField("src", strings.Repeat("é\x1b\n", 50_000)).Info(strings.Repeat("\x00", 100_000))
		got := d.next(generous)
		if len(got) > 8300 || len(got) < 1000 || !strings.Contains(got, "...") {
			t.Errorf("JSON %t: got %d bytes, want about 8 KiB with a mark", form, len(got))
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return r < ' ' }); i >= 0 {
			t.Errorf("JSON %t: got control character %q", form, got[i])
		}
	}
}

func TestHungSyslogHoldsNobodyUp(t *testing.T) {
	const lines = 5000
	socket := socketName(t)
	d := startSyslogd(t, socket)
	var stderr buffer
	log := open(t, logging.Options{Program: "vxsnd", Kind: logging.Syslog, Stderr: &stderr}.WithSocket(socket))
	for i := range lines {
		log.Info(numbered(i))
	}
	if log.Lost() == 0 {
		t.Fatal("got no line lost, want most of them")
	}
	report := regexp.MustCompile(`^<28>.*level=warning msg="log lines lost" count=(\d+)$`)
	seen, lost := map[string]bool{}, 0
	for len(seen)+lost < lines {
		text := d.next(generous)
		if text == "" {
			t.Fatalf("got %d lines and %d reported lost, want %d together", len(seen), lost, lines)
		}
		if m := report.FindStringSubmatch(text); m != nil {
			n, _ := strconv.Atoi(m[1])
			lost += n
			continue
		}
		if seen[text] {
			t.Errorf("got %q twice", text)
		}
		seen[text] = true
	}
	if got := log.Lost(); got != uint64(lost) || len(seen)+lost != lines {
		t.Errorf("got %d lines, %d reported lost and %d counted, want %d lines together", len(seen), lost, got, lines)
	}
	if got := stderr.String(); got != "" {
		t.Errorf("got %q on stderr, want nothing", got)
	}
}

// The lines fit the queue: those that are lost were given up by the writer.
func TestHungSyslogThatIsReplaced(t *testing.T) {
	const lines = 1000
	socket := socketName(t)
	startSyslogd(t, socket)
	log := open(t, logging.Options{Program: "vxsnd", Kind: logging.Syslog, Stderr: new(buffer)}.WithSocket(socket))
	for i := range lines {
		log.Info(numbered(i))
	}
	until(t, "a line lost", func() bool { return log.Lost() > 0 })
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	d := startSyslogd(t, socket)
	text := ""
	for !strings.Contains(text, "log lines lost") {
		if text = d.next(generous); text == "" {
			t.Fatal("got no report of lost lines from the new one")
		}
	}
}

func TestSyslogThatRestartsLosesNothing(t *testing.T) {
	socket := socketName(t)
	d := startSyslogd(t, socket)
	var stderr buffer
	log := open(t, logging.Options{Program: "vxsnd", Kind: logging.Syslog, Stderr: &stderr}.WithSocket(socket))
	for i := range 3 {
		log.Info(numbered(i))
		if got := d.next(generous); !strings.HasSuffix(got, "msg="+numbered(i)) {
			t.Errorf("got %q, want %s", got, numbered(i))
		}
		d.stop(socket)
		d = startSyslogd(t, socket)
	}
	if got := stderr.String(); got != "" {
		t.Errorf("got %q on stderr, want nothing", got)
	}
}

func TestLinesGoToStderrWhileThereIsNoSyslog(t *testing.T) {
	tests := []struct {
		name  string
		first bool // there is one at first
	}{
		{"none at start", false},
		{"none later", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket := socketName(t)
			var stderr buffer
			if tt.first {
				defer startSyslogd(t, socket).stop(socket)
			}
			log := open(t, logging.Options{Program: "vxsnd", Kind: logging.Syslog, Stderr: &stderr}.WithSocket(socket))
			if tt.first {
				os.Remove(socket)
				if err := log.Reopen(); err == nil {
					t.Error("reopen: got no error, want one that says why")
				}
			}
			n := 0
			more := func() { log.Info(numbered(n)); n++ }
			more()
			more()
			until(t, "lines on stderr", func() bool { return strings.Contains(stderr.String(), numbered(n-1)) })

			d := startSyslogd(t, socket)
			var all strings.Builder
			for deadline := time.Now().Add(generous); all.Len() == 0 && time.Now().Before(deadline); {
				more()
				all.WriteString(d.next(20 * time.Millisecond))
			}
			if want := regexp.MustCompile(`^<28>.*level=warning msg="log lines go to syslog now" stderr_lines=\d+$`); !want.MatchString(all.String()) {
				t.Errorf("got %q first, want a match of %s", all.String(), want)
			}
			more()
			for !strings.Contains(all.String(), numbered(n-1)) {
				text := d.next(generous)
				if text == "" {
					t.Fatalf("got no %s", numbered(n-1))
				}
				all.WriteString(text)
			}
			closeLog(t, log)
			once(t, stderr.String()+all.String(), n)
			if got := strings.Count(stderr.String(), "syslog cannot be reached"); got != 1 {
				t.Errorf("got %d warnings on stderr, want 1 in\n%s", got, stderr.String())
			}
			want := regexp.MustCompile(`^time="\S+" level=warning msg="syslog cannot be reached, log lines go to stderr" error=.*\ntime="\S+" level=info msg=line-00000\n`)
			if got := stderr.String(); !want.MatchString(got) {
				t.Errorf("got %q, want a match of %s", got, want)
			}
		})
	}
}

func TestMissingSyslogIsLookedForOnceASecond(t *testing.T) {
	socket := socketName(t)
	var stderr buffer
	var d *syslogd
	synctest.Test(t, func(t *testing.T) {
		log := open(t, logging.Options{Program: "vxsnd", Kind: logging.Syslog, Stderr: &stderr}.WithSocket(socket))
		synctest.Wait()
		d = startSyslogd(t, socket)
		log.Info("at once")
		synctest.Wait()
		time.Sleep(time.Second) // of the bubble's clock
		log.Info("later")
		closeLog(t, log)
		if got := d.next(0); got != "" && !strings.Contains(got, "go to syslog now") {
			t.Errorf("got %q in syslog first, want that it is there", got)
		}
	})
	if got := stderr.String(); !strings.Contains(got, `msg="at once"`) || strings.Contains(got, "later") {
		t.Errorf("got %q on stderr, want the line of the first second", got)
	}
}

func TestSyslogThatTakesAStream(t *testing.T) {
	socket := socketName(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	log := open(t, logging.Options{Program: "vxsnd", Kind: logging.Syslog}.WithSocket(socket))
	log.Info("first")
	log.Info("second")
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(generous)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for _, want := range []string{"msg=first\x00", "msg=second\x00"} {
		if got, err := r.ReadString(0); !strings.HasSuffix(got, want) || !strings.HasPrefix(got, "<30>") {
			t.Errorf("got %q (%v), want it to end with %q", got, err, want)
		}
	}
}
