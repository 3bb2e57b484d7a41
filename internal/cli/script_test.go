// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/logging"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/node"
	"vxsnd/internal/preflight"
	"vxsnd/internal/process"
)

// serviceVar is the environment variable by which a script puts a fake in the
// node's place; its value says what the fake does.
const serviceVar = "VXSND_TEST_SERVICE"

// TestMain lets the test binary be the programs, by the name it is called by.
func TestMain(m *testing.M) {
	run := func() {
		if does := os.Getenv(serviceVar); does != "" {
			newService = func(_ config.Program, c config.Config, log logrus.FieldLogger) (service, error) {
				return newFake(does, c, log)
			}
		}
		os.Exit(Run(os.Args, os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){
		"vxsnd": run, "vxrd": run, "vxsndctl": run, "vxrdctl": run, "flooder": run,
	})
}

// noRaceSleep keeps the race detector from holding each process for a second
// at its end.
const noRaceSleep = "atexit_sleep_ms=0"

// patience is how long a test waits for what will certainly happen.
const patience = time.Minute

// TestScript runs the programs as a user does.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(2 * patience),
		Setup: func(e *testscript.Env) error {
			e.Setenv("LC_ALL", "C")
			e.Setenv("GORACE", noRaceSleep)
			e.Setenv("RUNTIME_DIRECTORY", e.WorkDir) // for the pid file and the management socket
			e.Defer(func() { killDaemons(e.WorkDir) })
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "etcconf":
				for _, p := range daemons {
					if _, err := os.Stat(p.DefaultFile()); err == nil {
						return true, nil
					}
				}
				return false, nil
			case "syslog":
				return logging.FindSyslog() == nil, nil
			case "nouser": // whom vxsnd would become
				_, err := user.Lookup("vxsnd")
				return err != nil, nil
			case "root":
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": cmdStatus,
			"await":  cmdAwait,
			"raise":  cmdRaise,
			"gone":   cmdGone,
		},
	})
}

// killDaemons ends the daemons that a script that failed has left behind.
func killDaemons(dir string) {
	_ = filepath.WalkDir(dir, func(name string, _ fs.DirEntry, _ error) error {
		if filepath.Ext(name) != ".pid" {
			return nil
		}
		if text, err := os.ReadFile(name); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return nil
	})
}

// cmdStatus runs a command and compares its exit status: status N COMMAND ….
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = fmt.Sprint(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("got status %s, want %s", got, args[0])
	}
}

// cmdAwait waits until a file has a text in it: await FILE TEXT.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await file text")
	}
	name := ts.MkAbs(args[0])
	if !waitFor(func() bool {
		text, err := os.ReadFile(name)
		return err == nil && strings.Contains(string(text), args[1])
	}) {
		ts.Fatalf("%q does not turn up in %s", args[1], args[0])
	}
}

// cmdGone waits until a file is gone: gone FILE.
func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone file")
	}
	if !waitFor(func() bool {
		_, err := os.Lstat(ts.MkAbs(args[0]))
		return errors.Is(err, fs.ErrNotExist)
	}) {
		ts.Fatalf("%s is still there", args[0])
	}
}

// cmdRaise sends a signal to the background command started last, or to the
// process whose pid file is given: raise TERM [PIDFILE].
func cmdRaise(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1,
		"USR2": syscall.SIGUSR2, "KILL": syscall.SIGKILL,
	}
	if neg || len(args) < 1 || len(args) > 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: raise TERM|INT|HUP|USR1|USR2|KILL [pidfile]")
	}
	pid := 0
	if len(args) == 2 {
		var err error
		pid, err = strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
		ts.Check(err)
	} else {
		cmds := ts.BackgroundCmds()
		pid = cmds[len(cmds)-1].Process.Pid
	}
	ts.Check(syscall.Kill(pid, signals[args[0]]))
}

// A fake is a service without sockets.
type fake struct {
	does  string
	log   logrus.FieldLogger
	ready chan struct{}
}

func newFake(does string, _ config.Config, log logrus.FieldLogger) (service, error) {
	if does == "refuse" {
		return nil, errors.New("vtep_membership: 3 members not taken in (entries)")
	}
	return &fake{does, log, make(chan struct{})}, nil
}

func (f *fake) Listen(ctx context.Context) error {
	switch f.does {
	case "busy":
		return fmt.Errorf("listen 0.0.0.0:10001: %w", node.ErrBind)
	case "unprivileged":
		return fmt.Errorf("open raw socket: %w", node.ErrPrivilege)
	case "suicide":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "broken":
		return errors.New("read addresses: netlink is gone")
	case "slow":
		f.log.Info("fake starts")
		<-ctx.Done()
		return fmt.Errorf("listen: %w", ctx.Err())
	}
	return nil
}

func (f *fake) Run(ctx context.Context) error {
	switch f.does {
	case "fail":
		return errors.New("receive: socket is gone")
	}
	f.log.Info("fake runs")
	if f.does != "unready" {
		close(f.ready)
	}
	<-ctx.Done()
	f.log.WithField("cause", context.Cause(ctx)).Info("fake stops")
	if f.does == "stubborn" {
		f.log.Info("fake goes on")
		select {}
	}
	return nil
}

func (f *fake) Ready() <-chan struct{} { return f.ready }

func (f *fake) Prepare(c config.Config) (change, error) {
	if f.does == "rigid" {
		return nil, errors.New("no_flood: flooding cannot begin")
	}
	return &fakeChange{f, c}, nil
}

func (f *fake) Alive() error   { return nil }
func (f *fake) Status() string { return "fake is well" }
func (f *fake) Summary()       { f.log.Info("fake sums up") }

func (f *fake) Commands(base func() control.Process) []control.Command {
	return []control.Command{{Name: control.CommandShow, Run: func(_ context.Context, call *control.Call) error {
		return call.Send(base())
	}}}
}

func (f *fake) Metrics(fill func(*prom.Figures), maxVNIs func() int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var s prom.Figures
		fill(&s)
		fmt.Fprintf(w, "ready %t, alive %t, clients %d, vnis %d\n", s.Ready, s.Alive, s.Clients, maxVNIs())
	})
}

func (f *fake) Needs() preflight.Input             { return preflight.Input{} }
func (f *fake) Capabilities() []process.Capability { return nil }

// A fakeChange tells what became of it.
type fakeChange struct {
	f *fake
	c config.Config
}

func (c *fakeChange) Commit()  { c.f.log.WithField("holdtime", c.c.Holdtime).Info("fake changes") }
func (c *fakeChange) Discard() { c.f.log.Info("fake stays") }

func (f *fake) Close() error {
	if f.does == "unclosable" {
		return errors.New("close: something is left")
	}
	f.log.Info("fake is closed")
	return nil
}
