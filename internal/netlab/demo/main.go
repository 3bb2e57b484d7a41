// SPDX-License-Identifier: Apache-2.0

// Demo shows what vxsnd and vxrd do: it makes a network of namespaces with
// kernel VXLAN devices and a vxrd each around one vxsnd, on the configuration
// files as they are shipped. It goes through both ways of replication, says what
// it does as it does it, checks each thing that it says, and sums up.
//
//	demo [-vxsnd bin/vxsnd] [-config etc/vxsnd.conf] [-vxrd-config etc/vxrd.conf] [-pause 5s]
//
// It needs root, and nothing but vxsnd and its links beside it: no ip, no ping,
// no tcpdump. Its exit status is 0 when everything is as it should be, 1 when
// something is not or the lab cannot be made, 2 for a wrong command line, and
// 130 when it is interrupted. Nothing is left behind in any of these cases: the
// lab lives in file descriptors of this process, and the daemons, whose files are
// in file systems of their own, die with it.
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
	"path/filepath"
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
	vxsnd      string        // the program; its links are in the same directory
	config     string        // its configuration file
	vxrdConfig string        // that of vxrd
	pause      time.Duration // time to read between two parts
}

func main() {
	if os.Args[0] == asMachine {
		fmt.Fprintln(os.Stderr, "demo:", becomeDaemon(os.Args[1:]))
		os.Exit(exitFailed)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.vxsnd, "vxsnd", "bin/vxsnd", "the vxsnd `program` to show, with its links vxrd, vxsndctl and vxrdctl beside it")
	f.StringVar(&o.config, "config", "etc/vxsnd.conf", "its configuration `file`")
	f.StringVar(&o.vxrdConfig, "vxrd-config", "etc/vxrd.conf", "the configuration `file` of vxrd")
	f.DurationVar(&o.pause, "pause", 5*time.Second, "`time` to read between two parts")
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
		fmt.Fprintln(stderr, "demo: interrupted: the daemons and the whole lab are gone")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "demo:", err)
		return exitFailed
	}
	return 0
}

// demonstrate runs the parts in order and sums up. It ends at the first thing
// that is not as it should be, or with ctx, and has taken the lab down when it
// returns.
func demonstrate(ctx context.Context, o options, s *screen) error {
	bin := filepath.Dir(o.vxsnd)
	for _, file := range []string{o.vxsnd, o.config, o.vxrdConfig,
		filepath.Join(bin, "vxrd"), filepath.Join(bin, "vxsndctl"), filepath.Join(bin, "vxrdctl")} {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s does not exist: run 'sudo make demo' in the project's directory", file)
		} else if err != nil {
			return err
		}
	}
	l, err := newLab(s, bin)
	if err != nil {
		return err
	}
	parts := []*part{
		{title: "The lab, and a service node with the stock configuration", show: l.showStart},
		{title: "vxrd registers the VTEPs, and the service node makes the copies", show: l.showRegistration},
		{title: "Everybody reaches everybody", show: l.showPings},
		{title: "Broadcast, multicast and unknown unicast: one copy for each other VTEP", show: l.showFlood},
		{title: "Frames too large for the underlay", show: l.showFragments},
		{title: "A VTEP comes and goes", show: l.showComing},
		{title: "A second VXLAN, and a VTEP without vxrd", show: l.showIsolation},
		{title: "Head-end replication: the VTEPs make the copies themselves", show: l.showHeadEnd},
		{title: "Everybody reaches everybody, without the service node", show: l.showPings},
		{title: "One copy for each other VTEP, again", show: l.showHeadEndFlood},
		{title: "A VTEP comes and goes, again", show: l.showHeadEndComing},
		{title: "The service node stops: flood lists stay", show: l.showStop},
		{title: "vxrd stops: its flood entries go", show: l.showEnd},
	}
	err = l.showParts(ctx, o, parts)
	if err != nil && ctx.Err() == nil && s.err == nil {
		s.failed("%s", err)
		for _, d := range l.daemons {
			l.showLog(d)
		}
	}
	err = errors.Join(err, l.Close())
	if ctx.Err() == nil {
		s.summary(parts, err)
	}
	return errors.Join(err, s.err)
}

// A part is one step of the demonstration.
type part struct {
	title  string
	show   func(context.Context, options) error
	begun  bool
	failed bool
	checks int // that were as they should be
}

// showParts shows parts in order until one fails.
func (l *lab) showParts(ctx context.Context, o options, parts []*part) error {
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
		l.head(fmt.Sprintf("%d. %s", i+1, p.title))
		if l.err != nil {
			return nil // nobody watches: a terminal that is gone
		}
		before := l.checks
		p.begun = true
		err := p.show(ctx, o)
		p.checks, p.failed = l.checks-before, err != nil
		if err != nil {
			return err
		}
	}
	return nil
}
