// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"vxsnd/internal/logging"
)

// A gate is a destination that takes nothing while it is shut.
type gate struct {
	entered chan struct{} // gets a value for each Write that begins
	open    chan struct{}
	mu      sync.Mutex
	text    bytes.Buffer
	fail    int // writes to refuse first
}

func newGate() *gate {
	return &gate{entered: make(chan struct{}, 1), open: make(chan struct{})}
}

func (g *gate) Write(b []byte) (int, error) {
	select {
	case g.entered <- struct{}{}:
	default:
	}
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail > 0 {
		g.fail--
		return 0, errors.New("no space left on device")
	}
	return g.text.Write(b)
}

// openLog returns a log with the threshold info that writes to w.
func openLog(t *testing.T, w io.Writer) *logging.Log {
	t.Helper()
	log, err := logging.Open(logging.Options{Level: logrus.InfoLevel, Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestStuckDestinationHoldsNobodyUp(t *testing.T) {
	defer goleak.VerifyNone(t)
	const lines = 5000
	g := newGate()
	log := openLog(t, g)
	log.Info("first")
	<-g.entered
	for range lines {
		log.Info("line")
	}
	close(g.open)
	if err := log.Close(); err != nil {
		t.Fatalf("close: got %v, want nil", err)
	}
	m := regexp.MustCompile(`level=warning msg="log lines lost" count=(\d+)\n`).FindStringSubmatch(g.text.String())
	if m == nil {
		t.Fatalf("got no report of lost lines in %.200s", g.text.String())
	}
	lost, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(g.text.String(), "msg=line"); got+lost != lines || got == 0 || lost == 0 {
		t.Errorf("got %d lines and %d lost, want %d together and both of them", got, lost, lines)
	}
}

func TestCloseGivesUpOnAStuckDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		log := openLog(t, g)
		log.Info("line")
		if err := log.Close(); err == nil {
			t.Error("got no error, want one for the line that is lost")
		}
		close(g.open)
	})
}

func TestLinesThatTheDestinationRefusesAreReportedWhenItRecovers(t *testing.T) {
	g := newGate()
	g.fail = 1
	close(g.open)
	log := openLog(t, g)
	log.Info("lost")
	log.Info("kept")
	if err := log.Close(); err != nil {
		t.Errorf("close: got %v, want nil", err)
	}
	want := regexp.MustCompile(`^\S+ level=info msg=kept\n\S+ level=warning msg="log lines lost" count=1\n$`)
	if got := g.text.String(); !want.MatchString(got) {
		t.Errorf("got %q, want a match of %s", got, want)
	}
}

func TestCloseTellsOfLinesThatTheDestinationRefused(t *testing.T) {
	g := newGate()
	g.fail = 100
	close(g.open)
	log := openLog(t, g)
	log.Info("lost")
	if err := log.Close(); err == nil {
		t.Error("got no error, want one")
	}
}

// A picky destination refuses the writes whose numbers are in it.
type picky struct {
	buffer
	refuse []int
	writes int
}

func (p *picky) Write(b []byte) (int, error) {
	p.writes++
	if slices.Contains(p.refuse, p.writes) {
		return 0, errors.New("no space left on device")
	}
	return p.buffer.Write(b)
}

func TestReportThatIsRefusedComesAgain(t *testing.T) {
	// Line 0 is refused, the report after line 1, and line 3.
	out := &picky{refuse: []int{1, 3, 6}}
	log := openLog(t, out)
	for i := range 5 {
		log.Info(numbered(i))
	}
	closeLog(t, log)
	got := regexp.MustCompile(`line-00\d+|count=\d+`).FindAllString(out.String(), -1)
	want := []string{numbered(1), numbered(2), "count=1", numbered(4), "count=1"}
	if !slices.Equal(got, want) || log.Lost() != 2 {
		t.Errorf("got %v and %d lines lost, want %v and 2", got, log.Lost(), want)
	}
}
