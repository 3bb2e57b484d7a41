// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/logging"
	"vxsnd/internal/preflight"
	"vxsnd/internal/process"
)

// statusEvery is the time between two status lines for the service manager.
const statusEvery = 5 * time.Second

// A daemon runs a service the way a service manager, a terminal or an init
// script wants it: it owns what vxsnd and vxrd have in common.
type daemon struct {
	name           string
	input          config.Input
	stdout, stderr io.Writer
	background     bool

	started time.Time
	notify  *process.Notifier
	log     *logging.Log
	pidfile *process.PIDFile // nil where there is none
	// noPIDFile is why there is none, where the daemon can do without.
	noPIDFile error

	service service
	control *control.Server  // nil where there is no management socket
	metrics *metricsListener // nil where the service has no figures
	ending  atomic.Bool      // the service is told to stop
	checks  []preflight.Finding
	demands chan demand   // for the goroutine that does what signals ask for
	left    chan struct{} // closed when that has ended

	// mu guards what follows, which that goroutine alone changes, against clients.
	mu      sync.Mutex
	loaded  config.Result // of the last successful load
	over    overlay       // what was set since
	running config.Config // what is in force
}

// newDaemon returns a daemon for what the command line says.
func newDaemon(p config.Program, cl *commandLine, stdout, stderr io.Writer) *daemon {
	dir, err := os.Getwd()
	if err != nil {
		dir = "" // it was removed: who names no file in it has no need of it
	}
	return &daemon{
		name: p.String(), stdout: stdout, stderr: stderr, background: cl.daemon && !cl.debug, started: time.Now(),
		demands: make(chan demand), left: make(chan struct{}),
		input: config.Input{
			Program: p, File: cl.file, Required: cl.fileGiven, Flags: cl.options,
			Dir: dir, RuntimeDir: os.Getenv("RUNTIME_DIRECTORY"),
		},
	}
}

// load reads the configuration. Where something is wrong with it, it writes the
// warnings, which may tell why.
func (d *daemon) load() (err error) {
	if d.loaded, err = config.Load(d.input); err != nil {
		d.warn()
		return configError(err)
	}
	d.running = d.loaded.Config
	return nil
}

// warn writes the warnings about the configuration to standard error.
func (d *daemon) warn() {
	for _, w := range d.loaded.Warnings {
		fmt.Fprintf(d.stderr, "%s: warning: %s\n", d.name, w.Error())
	}
}

// detach starts the daemon in the background and waits until it is ready. What
// is wrong with the configuration it tells by itself.
func (d *daemon) detach() error {
	if err := d.load(); err != nil {
		return err
	}
	d.warn()
	switch d.running.LogDest.Kind {
	case config.DestStdout:
		fmt.Fprintf(d.stderr, "%s: warning: logdest is stdout: a log from the background goes nowhere\n", d.name)
	case config.DestSyslog:
		// The daemon itself says so on its standard error, which nobody sees.
		if err := logging.FindSyslog(); err != nil {
			fmt.Fprintf(d.stderr, "%s: warning: %v: a log from the background goes nowhere until it is there\n", d.name, err)
		}
	}
	status, err := process.Detach(d.stderr)
	if err != nil {
		return &exitError{exitFailed, err, ""}
	}
	if status != exitStopped {
		return &exitError{status, nil, ""} // the child has said why
	}
	return nil
}

// run serves until a signal stops it. Whoever waits for the daemon to be ready
// is told what keeps it from that.
func (d *daemon) run() (err error) {
	sig := catchRequests()
	if d.background {
		if err := process.Continue(); err != nil {
			return &exitError{exitFailed, err, ""}
		}
		d.input.File = d.absolute(d.input.File) // nobody remembers where it was started
	}
	if d.notify, err = process.NewNotifier(); err != nil {
		return &exitError{exitFailed, err, "unset NOTIFY_SOCKET, or mend what sets it"}
	}
	defer d.notify.Close()
	defer func() {
		if err != nil {
			var text bytes.Buffer
			status := report(&text, d.name, err)
			d.notify.Fail(status, text.String())
		}
	}()
	if err = d.load(); err != nil {
		return err
	}
	ctx := sig.catchEnd(context.Background(), restartCause(d.input.Program))
	defer sig.release()
	// The log comes after the pid file: it may be that of an instance which runs.
	if err = d.lockPIDFile(); err != nil {
		return err
	}
	o := d.logOptions(&d.running)
	o.Hold = true // until privileges are given up
	if d.log, err = logging.Open(o); err != nil {
		return errors.Join(logError(d.input.Program, err), d.pidfile.Remove())
	}
	err = d.serve(ctx, sig)
	if err != nil && (d.background || !d.logsToTerminal()) {
		log := d.log.WithError(err)
		var e *exitError
		if errors.As(err, &e) && e.hint != "" {
			log = log.WithField("hint", e.hint)
		}
		log.Error(d.name + " failed")
	}
	if e := d.log.Close(); e != nil {
		fmt.Fprintf(d.stderr, "%s: warning: %v\n", d.name, e)
	}
	return err
}

// logsToTerminal tells whether the log is where an error is reported, too, so
// that it would be there twice.
func (d *daemon) logsToTerminal() bool {
	switch d.running.LogDest.Kind {
	case config.DestStdout:
		return true
	case config.DestSyslog:
		return logging.FindSyslog() != nil
	}
	return false
}

// logOptions says where a configuration has the log go.
func (d *daemon) logOptions(c *config.Config) logging.Options {
	return logging.Options{
		Program: d.name,
		Level:   logLevels[c.LogLevel],
		JSON:    c.LogFormat == config.FormatJSON,
		Kind:    logKinds[c.LogDest.Kind],
		Path:    c.LogDest.Path,
		MaxSize: c.LogFileSize,
		Backups: c.LogBackupCount,
		Stdout:  d.stdout,
		Stderr:  d.stderr,
	}
}

// The enumerations of the configuration and of the log. logrus has no level
// critical: below that threshold is everything but its fatal and panic lines.
var (
	logLevels = map[config.LogLevel]logrus.Level{
		config.LevelDebug: logrus.DebugLevel, config.LevelInfo: logrus.InfoLevel, config.LevelWarning: logrus.WarnLevel,
		config.LevelError: logrus.ErrorLevel, config.LevelCritical: logrus.FatalLevel,
	}
	logKinds = map[config.DestKind]logging.Kind{
		config.DestStdout: logging.Stdout, config.DestSyslog: logging.Syslog, config.DestFile: logging.File,
	}
)

// serve opens everything, gives up what privilege it can, and serves.
func (d *daemon) serve(ctx context.Context, sig *signals) (err error) {
	defer d.removePIDFile()
	if d.background {
		if err := os.Chdir("/"); err != nil {
			return &exitError{exitFailed, err, ""}
		}
	}
	d.log.WithField("version", currentVersion()).Info(d.name + " starts")
	for _, w := range d.loaded.Warnings {
		d.log.WithError(w).Warn("configuration taken with a reservation")
	}
	id, err := d.identity()
	if err != nil {
		return err
	}
	if d.noPIDFile != nil {
		d.log.WithError(d.noPIDFile).Warn("pid file not written")
	}
	if d.service, err = newService(d.input.Program, d.running, d.log); err != nil {
		return startError(d.input.Program, err, exitConfig)
	}
	defer func() {
		if e := d.service.Close(); err == nil && e != nil {
			err = startError(d.input.Program, e, exitFailed)
		}
	}()
	if err = d.open(ctx, id); err == nil {
		err = d.loop(ctx, sig)
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		return nil // told to stop while it started
	}
	var e *exitError
	if errors.As(err, &e) {
		return err
	}
	return startError(d.input.Program, err, exitFailed)
}

// open opens all sockets, looks at what of the machine is in their way, and
// then lets go of the privileges that this took.
func (d *daemon) open(ctx context.Context, id *process.Identity) error {
	if err := d.service.Listen(ctx); err != nil {
		return err
	}
	if err := d.listenControl(); err != nil {
		return err
	}
	err := d.listenMetrics()
	if err == nil {
		err = d.drop(id)
	}
	if err != nil && d.control != nil {
		err = errors.Join(err, d.control.Close())
	}
	if err != nil && d.metrics != nil {
		d.metrics.Close()
	}
	return err
}

// listenControl opens the management socket. Where nobody asked for it, a
// service without one is better than none.
func (d *daemon) listenControl() error {
	commands := slices.Concat(d.service.Commands(d.base), d.steerCommands(), []control.Command{d.configCommand()})
	s := control.New(control.Options{Path: d.running.UDSFile, Commands: commands, Log: d.log})
	err := s.Listen()
	switch {
	case err == nil:
		d.control = s
	case !d.insists("udsfile"):
		d.log.WithError(err).Warn("no management socket")
	case errors.Is(err, fs.ErrPermission):
		return &exitError{exitBind, err, "name a file in a directory that the user may write to (udsfile), or start as root"}
	default:
		return &exitError{exitBind, err, "name another file (udsfile), or end what uses this one"}
	}
	return nil
}

// base is what the answer to show says of the process.
func (d *daemon) base() control.Process {
	d.mu.Lock()
	files := d.files()
	d.mu.Unlock()
	s := control.Process{
		Program: d.name, Version: currentVersion(), PID: os.Getpid(),
		Started: d.started, UptimeSeconds: int64(time.Since(d.started) / time.Second),
		ConfigFiles: files, LogLinesLost: d.log.Lost(),
	}
	for _, f := range d.checks {
		if !f.OK && !f.Unknown {
			s.Checks = append(s.Checks, control.Check{Name: f.Name, Text: f.Text, Fix: f.Fix})
		}
	}
	return s
}

// absolute returns the name of a file as it is everywhere.
func (d *daemon) absolute(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.input.Dir, name)
}

// files returns the absolute names of the configuration files that were read.
func (d *daemon) files() (names []string) {
	for _, name := range d.loaded.Files {
		names = append(names, d.absolute(name))
	}
	return names
}

// loop serves until a signal ends it or something fails.
func (d *daemon) loop(ctx context.Context, sig *signals) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		d.ending.Store(true)
		d.notify.Stopping()
		return nil
	})
	g.Go(func() error { return d.attend(ctx, sig) })
	// The watchdog is fed, and the management socket and the metrics listener
	// answer, until the last packet is served.
	wctx, stop := context.WithCancel(context.Background())
	defer stop()
	if d.control != nil {
		g.Go(func() error { return d.control.Run(wctx) })
	}
	if d.metrics != nil {
		g.Go(func() error {
			d.metrics.Run(wctx)
			return nil
		})
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_ = process.RunWatchdog(wctx, d.notify, d.service.Alive, d.log)
	}()
	g.Go(func() error {
		defer stop()
		return d.service.Run(ctx)
	})
	err := g.Wait()
	<-watched
	return err
}

// attend tells when the service is ready, and does what signals and clients ask
// for, until ctx is done.
func (d *daemon) attend(ctx context.Context, sig *signals) error {
	defer close(d.left)
	ready := d.service.Ready()
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
			ready = nil
			d.notify.Ready(d.service.Status())
		case <-tick.C:
			if ready == nil {
				d.notify.Status(d.service.Status())
			}
		case <-sig.reload:
			d.reload(ctx, ready == nil)
			// Those that come in a storm count as one.
			select {
			case <-ctx.Done():
			case <-time.After(reloadPause):
			}
		case q := <-d.demands:
			report, err := q.do(ctx, ready == nil)
			q.answer <- outcome{report, err}
		case <-sig.summary:
			d.service.Summary()
		}
	}
}
