// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/control"
)

func TestColoursAreForTerminals(t *testing.T) {
	if got := (terminal{}).paint(bad, "x"); got != "x" {
		t.Errorf("got %q without colours, want x", got)
	}
	with := terminal{colour: true}
	if got, want := with.paint(bad, "x"), "\x1b[31mx\x1b[0m"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, plainText := range []string{with.paint(plain, "x"), with.paint(good, "")} {
		if strings.Contains(plainText, "\x1b") {
			t.Errorf("got %q, want no colour", plainText)
		}
	}
	if got := terminalOf(&bytes.Buffer{}); got != (terminal{}) {
		t.Errorf("got %+v of a buffer, want no terminal", got)
	}
}

func TestFoldCountsWhatIsSeen(t *testing.T) {
	red := terminal{colour: true}.paint(bad, "red words")
	tests := []struct {
		name  string
		text  string
		width int
		want  []string
	}{
		{"fits", "one  two", 20, []string{"one  two"}},
		{"no bound", strings.Repeat("word ", 100), 0, []string{strings.Repeat("word ", 100)}},
		{"too narrow to be worth it", "one two three four", 5, []string{"one two three four"}},
		{"two lines", "one two three four five", 16, []string{"one two three", "four five"}},
		{"a long word", "a veryverylongwordindeed b", 16, []string{"a", "veryverylongwordindeed", "b"}},
		{"colours take no room", red + " and more", 18, []string{red + " and more"}},
		{"colours over two lines", "some text before " + red, 20, []string{"some text before \x1b[31mred", "words\x1b[0m"}},
		{"letters, not bytes", "äöü äöü äöü äöü", 16, []string{"äöü äöü äöü äöü"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, fold(tt.text, tt.width)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// A slate is what is written, for many at once.
type slate struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *slate) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

// taken returns what was written since it was called before.
func (s *slate) taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.b.Reset()
	return s.b.String()
}

// pass lets time pass in a bubble, and everybody in it do what is due.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestProgressIsToldOfWhatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slate{}
		p := startProgress(s, 20, "waiting")
		pass(patientTime - 1)
		if got := s.taken(); got != "" {
			t.Errorf("got %q at once, want nothing", got)
		}
		pass(1)
		if got, want := s.taken(), clearLine+"waiting"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		pass(10 * progressTime)
		if got := s.taken(); got != "" {
			t.Errorf("got %q again, want nothing", got)
		}
		p.set("waiting for %d things and more", 7)
		pass(progressTime)
		if got, want := s.taken(), clearLine+"waiting for 7 thin…"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		p.stop()
		if got := s.taken(); got != clearLine {
			t.Errorf("got %q at the end, want %q", got, clearLine)
		}
		p.stop()
		if got := s.taken(); got != "" {
			t.Errorf("got %q after the end, want nothing", got)
		}
	})
}

func TestProgressOfWhatIsQuickIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slate{}
		p := startProgress(s, 20, "waiting")
		pass(patientTime - 1)
		p.stop()
		if got := s.taken(); got != "" {
			t.Errorf("got %q, want nothing", got)
		}
	})
}

func TestNothingIsWrittenBehindAProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slate{}
		p := startProgress(s, 20, "waiting")
		pass(patientTime)
		s.taken()
		if _, err := (&afterProgress{s, p}).Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		if got, want := s.taken(), clearLine+"answer"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestOutputIsForWhereItGoes runs a command as users do, in a terminal.
func TestOutputIsForWhereItGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stop, err := serveControl(path, cannedCommands(cannedStatus(), cannedPeers(), cannedFDB(), 3))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	tests := []struct {
		name    string
		command []string
		colours bool
		all     bool // columns
	}{
		{"terminal", []string{"vxsndctl"}, true, false},
		{"no colour wanted", []string{"env", "NO_COLOR=1", "vxsndctl"}, false, false},
		{"dumb terminal", []string{"env", "TERM=dumb", "vxsndctl"}, false, false},
		{"unknown terminal", []string{"env", "-u", "TERM", "vxsndctl"}, false, false},
		{"pipe", []string{"sh", "-c", `"$@" | cat`, "sh", "vxsndctl"}, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := startConsole(t, tt.command[0], append(tt.command[1:], "-u", path, "peers")...)
			c.ended(exitStopped)
			c.await("the whole answer", func(text string) bool { return strings.Contains(text, "no such host") })
			if got := strings.Contains(c.written(), "\x1b["); got != tt.colours {
				t.Errorf("got colours %t, want %t: %q", got, tt.colours, c.written())
			}
			if got := strings.Contains(c.written(), "Updates  Dump"); got != tt.all {
				t.Errorf("got all columns %t, want %t: %q", got, tt.all, c.written())
			}
		})
	}
}

func TestAUserSeesWhatIsWaitedFor(t *testing.T) {
	path, goOn := filepath.Join(t.TempDir(), "s"), make(chan struct{})
	stop, err := serveControl(path, []control.Command{{Name: control.CommandFDB, Run: func(ctx context.Context, call *control.Call) error {
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return call.Send(cannedFDB())
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c := startConsole(t, "vxsndctl", "-u", path, "fdb")
	c.await("a line about it", func(text string) bool { return strings.HasSuffix(text, clearLine+"waiting for the daemon") })
	close(goOn)
	c.ended(exitStopped)
	c.await("the answer in its place", func(text string) bool {
		_, answer, _ := strings.Cut(text, "waiting for the daemon")
		return strings.HasPrefix(answer, clearLine) && strings.Contains(answer, "16777215")
	})
}
