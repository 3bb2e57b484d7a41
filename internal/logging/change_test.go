// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

func prepare(t *testing.T, log *logging.Log, o logging.Options) *logging.Change {
	t.Helper()
	c, err := log.Prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChangeIsAllOrNothing(t *testing.T) {
	var out buffer
	name := logFile(t)
	log := open(t, logging.Options{Level: logrus.InfoLevel, Stdout: &out})
	o := logging.Options{Level: logrus.DebugLevel, JSON: true, Kind: logging.File, Path: name}

	write(t, name, "of before\n")
	prepare(t, log, o).Discard()
	if got := read(t, name); got != "of before\n" {
		t.Errorf("got %q, want the file as it was", got)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	prepare(t, log, o).Discard()
	if exists(name) {
		t.Error("got a file, want none after Discard")
	}
	bad := o
	bad.Path = filepath.Join(name, "no")
	if _, err := log.Prepare(bad); err == nil || !strings.Contains(err.Error(), bad.Path) {
		t.Errorf("got %v, want one that names %s", err, bad.Path)
	}

	c := prepare(t, log, o)
	log.Debug("not logged")
	log.Info("before")
	c.Commit()
	log.Debug("after")
	closeLog(t, log)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "level=info msg=before\n") {
		t.Errorf("got %q in the old destination, want one line of text", got)
	}
	var got struct{ Level, Msg string }
	if err := json.Unmarshal([]byte(read(t, name)), &got); err != nil || got.Level != "debug" || got.Msg != "after" {
		t.Errorf("got %q (%v) in the new destination, want one line of JSON", read(t, name), err)
	}
}

func TestChangeOfWhatStaysOpen(t *testing.T) {
	name := logFile(t)
	log := open(t, logging.Options{Level: logrus.InfoLevel, Kind: logging.File, Path: name})
	for i := range 10 {
		log.Info(numbered(i))
	}
	until(t, "the lines in the file", func() bool { return strings.Contains(read(t, name), numbered(9)) })
	// The directory is as good as not writable: nothing can be opened there.
	if err := os.Rename(name, name+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	c := prepare(t, log, logging.Options{Level: logrus.DebugLevel, JSON: true, Kind: logging.File, Path: name, MaxSize: 100, Backups: 1})
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".moved", name); err != nil {
		t.Fatal(err)
	}
	c.Commit()
	log.Debug("after")
	packed(t, name)
	closeLog(t, log)
	if got := read(t, name); !strings.HasPrefix(got, "{") || !strings.Contains(got, "after") {
		t.Errorf("got %q in the new file, want a line of JSON", got)
	}
	once(t, unpack(t, name+".1.gz"), 10)
}

// What is logged at once fits the queue, so that each line must arrive.
func TestChangesLoseNothing(t *testing.T) {
	const loggers, lines = 8, 120
	var out buffer
	dir := t.TempDir()
	log := open(t, logging.Options{Stdout: &out})
	var wg sync.WaitGroup
	for l := range loggers {
		wg.Go(func() {
			for i := range lines {
				log.Info(numbered(l*lines + i))
			}
		})
	}
	options := []logging.Options{
		{Kind: logging.File, Path: filepath.Join(dir, "a"), JSON: true},
		{Kind: logging.File, Path: filepath.Join(dir, "a")},
		{Kind: logging.File, Path: filepath.Join(dir, "b"), JSON: true},
		{Kind: logging.Stdout},
		{Kind: logging.Stdout, JSON: true},
		{Kind: logging.File, Path: filepath.Join(dir, "c"), JSON: true, MaxSize: 300, Backups: 1000},
	}
	for range 5 {
		for _, o := range options {
			o.Level = logrus.DebugLevel
			prepare(t, log, o).Commit()
		}
	}
	wg.Wait()
	closeLog(t, log)
	all := out.String() + read(t, filepath.Join(dir, "a")) + read(t, filepath.Join(dir, "b"))
	for l := range strings.Lines(read(t, filepath.Join(dir, "b"))) {
		if !json.Valid([]byte(l)) {
			t.Errorf("got %q in the file of JSON", l)
		}
	}
	for _, n := range names(t, dir) {
		switch n = filepath.Join(dir, n); {
		case strings.HasSuffix(n, ".gz"):
			all += unpack(t, n)
		case strings.Contains(n, string(filepath.Separator)+"c"):
			all += read(t, n)
		}
	}
	once(t, all, loggers*lines)
}

func TestChangeGivesUpAStuckDestination(t *testing.T) {
	name := logFile(t)
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		log := openLog(t, g)
		log.Info("stuck")
		<-g.entered
		for range 10 {
			log.Info("behind it")
		}
		prepare(t, log, logging.Options{Level: logrus.InfoLevel, Kind: logging.File, Path: name}).Commit()
		if err := log.Reopen(); err != nil {
			t.Errorf("reopen: got %v, want nil", err)
		}
		log.Info("after")
		closeLog(t, log)
		if got := log.Lost(); got != 10 {
			t.Errorf("got %d lines lost, want 10", got)
		}
		close(g.open)
	})
	got := read(t, name)
	if !strings.Contains(got, "msg=after\n") || !strings.Contains(got, `msg="log lines lost" count=10`) {
		t.Errorf("got %q, want a line and how many were lost", got)
	}
}

func TestRequestsDoNotWaitForAStuckDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		log := openLog(t, g)
		log.Info("stuck")
		<-g.entered
		if err := log.Reopen(); err == nil {
			t.Error("got no error, want one")
		}
		close(g.open)
		closeLog(t, log)
	})
}

// A text calls a function when it is formatted.
type text struct{ fn func() string }

func (t text) String() string { return t.fn() }

func TestLineThatMeetsAChangeIsFormattedAnew(t *testing.T) {
	var out buffer
	name := logFile(t)
	log := open(t, logging.Options{Stdout: &out})
	c := prepare(t, log, logging.Options{Level: logrus.DebugLevel, JSON: true, Kind: logging.File, Path: name})
	commit := sync.OnceFunc(c.Commit)
	log.WithField("task", text{func() string { commit(); return "change" }}).Info("line")
	closeLog(t, log)
	if got := out.String(); got != "" {
		t.Errorf("got %q in the old destination, want nothing", got)
	}
	if got := read(t, name); !json.Valid([]byte(got)) || strings.Count(got, "line") != 1 {
		t.Errorf("got %q in the new destination, want one line of JSON", got)
	}
}
