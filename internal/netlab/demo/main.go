// SPDX-License-Identifier: Apache-2.0

// Demo shows what vxsnd does: it makes a network of namespaces with kernel
// VXLAN devices around one vxsnd on a configuration file as it is shipped, says
// what it does as it does it, and checks each thing that it says.
//
//	demo [-vxsnd bin/vxsnd] [-config etc/vxsnd.conf] [-pause 2s]
//
// It needs root, and nothing but vxsnd: no ip, no ping, no tcpdump. Its exit
// status is 0 when everything is as it should be, 1 when something is not or
// the lab cannot be made, 2 for a wrong command line, and 130 when it is
// interrupted. Nothing is left behind in any of these cases: the lab lives in
// file descriptors of this process, and vxsnd dies with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The exit status.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 128 + int(syscall.SIGINT) // as a shell has it
)

// options are what the command line says.
type options struct {
	vxsnd  string        // the program
	config string        // its configuration file
	pause  time.Duration // time to read between two parts
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.vxsnd, "vxsnd", "bin/vxsnd", "the vxsnd `program` to show")
	f.StringVar(&o.config, "config", "etc/vxsnd.conf", "its configuration `file`")
	f.DurationVar(&o.pause, "pause", 2*time.Second, "`time` to read between two parts")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	case f.NArg() > 0:
		fmt.Fprintf(stderr, "demo: surplus argument %q\n", f.Arg(0))
		return exitUsage
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A second signal kills.
	defer context.AfterFunc(ctx, stop)()

	s := &screen{w: stdout}
	err := demonstrate(ctx, o, s)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "demo: interrupted: vxsnd and the whole lab are gone")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "demo:", err)
		return exitFailed
	}
	s.gap()
	s.say("All of it was as it should be. The lab is taken down, and nothing of it is left on this machine.")
	return 0
}

// demonstrate runs the parts in order. It ends at the first thing that is not
// as it should be, or with ctx, and has taken the lab down when it returns.
func demonstrate(ctx context.Context, o options, s *screen) (err error) {
	for _, file := range []string{o.vxsnd, o.config} {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s does not exist: run 'sudo make demo' in the project's directory", file)
		} else if err != nil {
			return err
		}
	}
	l, err := newLab(s)
	if err != nil {
		return err
	}
	defer func() {
		l.showLog()
		err = errors.Join(err, l.Close())
	}()
	parts := []struct {
		title string
		show  func(context.Context, options) error
	}{
		{"The lab, and a service node with the stock configuration", l.showStart},
		{"VTEPs come up and are learned from what they send", l.showLearning},
		{"Everybody reaches everybody", l.showPings},
		{"Broadcast, multicast and unknown unicast: one copy for each other VTEP", l.showFlood},
		{"A second VXLAN on some of the VTEPs", l.showIsolation},
		{"A VTEP that never sends: it registers instead", l.showRegistration},
		{"Frames too large for the underlay", l.showFragments},
		{"The service node stops", l.showStop},
	}
	for i, p := range parts {
		if i > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(o.pause):
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.part(i+1, p.title)
		if s.err != nil {
			return s.err // nobody watches: a terminal that is gone
		}
		if err := p.show(ctx, o); err != nil {
			return err
		}
		l.showLog()
	}
	return nil
}
