// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"vxsnd/internal/netlab"
)

// asDemo makes the test binary the demonstration.
const asDemo = "VXSND_TEST_AS_DEMO"

// These are the configuration files that are shipped.
const (
	stock     = "../../../etc/vxsnd.conf"
	stockVxrd = "../../../etc/vxrd.conf"
)

func TestMain(m *testing.M) {
	if os.Args[0] == asMachine {
		fmt.Fprintln(os.Stderr, becomeDaemon(os.Args[1:]))
		os.Exit(exitFailed)
	}
	if os.Getenv(asDemo) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "vxsnd-demo-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaryDir = dir
	status := m.Run()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}

var binaryDir string

// link makes the other names of a program.
func link(file string) error {
	var errs []error
	for _, name := range []string{"vxrd", "vxsndctl", "vxrdctl"} {
		errs = append(errs, os.Symlink(filepath.Base(file), filepath.Join(filepath.Dir(file), name)))
	}
	return errors.Join(errs...)
}

// build builds vxsnd and its links, once.
var build = sync.OnceValues(func() (string, error) {
	file := filepath.Join(binaryDir, "vxsnd")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", file, "vxsnd/cmd/vxsnd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, link(file)
})

// flags are those of a demonstration without pauses, or with long ones.
func flags(t *testing.T, pause time.Duration) []string {
	t.Helper()
	netlab.Need(t)
	vxsnd, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-vxsnd", vxsnd, "-config", stock, "-vxrd-config", stockVxrd, "-pause", pause.String()}
}

func TestEverythingIsAsItShouldBe(t *testing.T) {
	var out, errs bytes.Buffer
	if status := run(flags(t, 0), &out, &errs); status != 0 {
		t.Fatalf("got status %d, want 0; it says:\n%s%s", status, out.String(), errs.String())
	}
	if errs.Len() > 0 {
		t.Errorf("got %q on standard error, want nothing", errs.String())
	}
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > width || strings.TrimRight(line, " ") != line {
			t.Errorf("got a line of %d columns, want at most %d and no blank at its end: %q", n, width, line)
		}
	}
}

// One kind of wrong for each promise: the demonstration must notice.
func TestWrongIsNoticed(t *testing.T) {
	tests := []struct {
		name    string
		file    int // which argument it is in
		options string
		want    string
		waits   bool // for something that never comes
	}{
		{"nobody is learned", vxsndFile, "learning = off", "as the members of VNI 200", true},
		{"a member too many", vxsndFile, "vtep_membership = 192.0.2.4 100", "as the members of VNI 100", false},
		{"a checksum", vxsndFile, "udp_checksum = compute", "UDP checksum", false},
		{"large copies are dropped", vxsndFile, "oversize = drop", "at vtep2", true},
		{"no start", vxsndFile, "holdtime = 0", "vxsnd ended with status 3", false},
		{"nobody registers", vxrdFile, "vxlan_port = 4790", "got none as the members of VNI 100", true},
		{"no answer is believed", vxrdFile, "answer_from = 198.51.100.0/24", "wait for the flood list of vtep1", true},
		{"no start of vxrd", vxrdFile, "holdtime = 0", "vxrd ended with status 3", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer func(d time.Duration) { patience = d }(patience)
			if tt.waits {
				patience = 5 * time.Second
			}
			args := flags(t, 0)
			conf := filepath.Join(t.TempDir(), "conf")
			if err := os.WriteFile(conf, []byte(tt.options+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			args[tt.file] = conf
			var out, errs bytes.Buffer
			if got := run(args, &out, &errs); got != exitFailed || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("got status %d and %q, want %d and %q in it; it says:\n%s",
					got, errs.String(), exitFailed, tt.want, out.String())
			}
			if n := strings.Count(out.String(), "\n  FAILED "); n != 3 { // where it is, in the summary, and below it
				t.Errorf("got %d lines that begin with FAILED, want 3:\n%s", n, out.String())
			}
		})
	}
}

// The arguments of flags that name configuration files.
const (
	vxsndFile = 3
	vxrdFile  = 5
)

// A demonstration that nobody sees is not carried on.
func TestTerminalThatIsGone(t *testing.T) {
	r, w := io.Pipe()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	if got := run(flags(t, time.Hour), w, &errs); got != exitFailed || !strings.Contains(errs.String(), "closed pipe") {
		t.Errorf("got status %d and %q, want %d and what is wrong with the terminal", got, errs.String(), exitFailed)
	}
}

func TestCommandLine(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want int
		text string
	}{
		{"help", []string{"-h"}, 0, "Usage of demo"},
		{"unknown flag", []string{"-x"}, exitUsage, "-x"},
		{"surplus", []string{"now"}, exitUsage, `surplus argument "now"`},
		{"no program", []string{"-vxsnd", "/nonexistent/vxsnd"}, exitFailed, "/nonexistent/vxsnd does not exist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			got := run(tt.args, &out, &errs)
			if got != tt.want || !strings.Contains(errs.String(), tt.text) || out.Len() > 0 {
				t.Errorf("got status %d, %q and %q, want %d, nothing and %q", got, out.String(), errs.String(), tt.want, tt.text)
			}
		})
	}
}

func TestWithoutRoot(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	// Where go test puts the test is not open to everybody.
	dir, err := os.MkdirTemp(binaryDir, "open")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "demo.test")
	err = errors.Join(os.WriteFile(file, b, 0o755), link(file), os.Chmod(dir, 0o755), os.Chmod(binaryDir, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "-vxsnd", file, "-config", file, "-vxrd-config", file)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), asDemo+"=1")
	if os.Geteuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, _ := cmd.CombinedOutput() // the status tells
	text := string(out)
	if got := cmd.ProcessState.ExitCode(); got != exitFailed || !strings.Contains(text, "need root") || strings.Count(text, "\n") != 1 {
		t.Errorf("got status %d and %q, want %d and a line that says what is needed", got, text, exitFailed)
	}
}

func TestInterruptLeavesNothing(t *testing.T) {
	tests := []struct {
		name   string
		signal syscall.Signal
		pause  time.Duration // after each part
		at     string        // the line at which it comes
		want   int
	}{
		{"interrupt early", syscall.SIGINT, time.Hour, "service node, 192.0.2.254", exitInterrupted},
		{"interrupt", syscall.SIGINT, time.Hour, "vxsnd is ready", exitInterrupted},
		{"terminate", syscall.SIGTERM, time.Hour, "vxsnd is ready", exitInterrupted},
		{"hang up", syscall.SIGHUP, 0, "has registered vxlan100", exitInterrupted},
		{"kill", syscall.SIGKILL, 0, "has registered vxlan100", -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := flags(t, tt.pause)
			links, names := hostLinks(t), namedNamespaces()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			temp := t.TempDir()
			cmd := exec.Command(self, args...)
			cmd.Env = append(os.Environ(), asDemo+"=1", "TMPDIR="+temp)
			cmd.Stderr = new(bytes.Buffer)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			sc := bufio.NewScanner(out)
			reached := false
			for !reached && sc.Scan() {
				reached = strings.Contains(sc.Text(), tt.at)
			}
			if !reached {
				t.Errorf("got no line with %q", tt.at)
			}
			if err := cmd.Process.Signal(tt.signal); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, out); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait() // the status tells
			if got := cmd.ProcessState.ExitCode(); got != tt.want {
				t.Errorf("got status %d, want %d; it says %s", got, tt.want, cmd.Stderr)
			}
			vxsnd := args[1]
			err = netlab.Wait(t.Context(), "the end of all daemons", func() bool { return !runs(vxsnd) })
			if err != nil {
				t.Error(err)
			}
			// Others on the machine may remove theirs meanwhile.
			if got := added(links, hostLinks(t)); len(got) > 0 {
				t.Errorf("got new links %s on the host, want none", got)
			}
			if got := added(names, namedNamespaces()); len(got) > 0 {
				t.Errorf("got new namespaces %s, want none", got)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("got %v left in the directory for temporary files, error %v", left, err)
			}
		})
	}
}

// runs tells whether a process runs a program.
func runs(program string) bool {
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, e := range exes {
		if to, err := os.Readlink(e); err == nil && to == program {
			return true
		}
	}
	return false
}

// added returns what is in after and not in before.
func added(before, after []string) []string {
	return slices.DeleteFunc(after, func(s string) bool { return slices.Contains(before, s) })
}

func hostLinks(t *testing.T) (names []string) {
	t.Helper()
	ls, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range ls {
		names = append(names, l.Name)
	}
	return names
}

func namedNamespaces() []string {
	names, _ := filepath.Glob("/run/netns/*")
	return names
}
