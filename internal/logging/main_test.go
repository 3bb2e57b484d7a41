// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"vxsnd/internal/logging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A buffer may be written to and read at the same time.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// open returns a log that is closed with the test.
func open(t *testing.T, o logging.Options) *logging.Log {
	t.Helper()
	if o.Level == 0 {
		o.Level = logrus.DebugLevel
	}
	log, err := logging.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func closeLog(t *testing.T, log *logging.Log) {
	t.Helper()
	if err := log.Close(); err != nil {
		t.Errorf("close: got %v, want nil", err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("got no end of waiting, want %s", what)
		}
	}
}

// read returns what is in a file, nothing where there is none.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// names lists a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// logFile is the name of a log file in a directory of the test's own.
func logFile(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "vxsnd.log")
}

// once fails the test unless each line from "line-00000" on, as many as want,
// is in text exactly once.
func once(t *testing.T, text string, want int) {
	t.Helper()
	for i := range want {
		if got := strings.Count(text, numbered(i)); got != 1 {
			t.Errorf("got %s %d times, want once", numbered(i), got)
		}
	}
}

func numbered(i int) string { return fmt.Sprintf("line-%05d", i) }
