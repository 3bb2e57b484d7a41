// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/logging"
	"vxsnd/internal/node"
)

// runVxsnd is the service node's daemon.
func runVxsnd(args []string, stdout, stderr io.Writer) error {
	cl, err := parseFlags(args)
	switch {
	case err != nil:
		return err
	case cl.help:
		return help(stdout)
	case cl.version:
		_, err := fmt.Fprintln(stdout, versionLine("vxsnd"))
		return err
	case cl.daemon:
		return &exitError{exitUsage, errors.New("-d: daemon mode comes with a later version"),
			"leave -d out and let a service manager keep vxsnd in the background"}
	}
	r, err := config.Load(config.Input{Program: config.Vxsnd, File: cl.file, Required: cl.fileGiven, Flags: cl.options})
	if err != nil {
		return configError(err)
	}
	if cl.test {
		for _, w := range r.Warnings {
			fmt.Fprintf(stderr, "vxsnd: warning: %s\n", w.Error())
		}
		_, err := newService(r.Config, logging.Discard())
		return startError(err, exitConfig)
	}
	log, err := logging.Open(logOptions(r.Config, stdout, stderr))
	if err != nil {
		return logError(err)
	}
	err = serve(r, log)
	if err != nil && r.Config.LogDest.Kind == config.DestFile {
		log.WithError(err).Error("vxsnd failed")
	}
	if e := log.Close(); e != nil {
		fmt.Fprintf(stderr, "vxsnd: warning: %v\n", e)
	}
	return err
}

// logOptions turns the configuration into that of the log. logrus has no
// critical level: below that threshold is everything but its fatal lines.
func logOptions(c config.Config, stdout, stderr io.Writer) logging.Options {
	levels := map[config.LogLevel]logrus.Level{
		config.LevelDebug: logrus.DebugLevel, config.LevelInfo: logrus.InfoLevel, config.LevelWarning: logrus.WarnLevel,
		config.LevelError: logrus.ErrorLevel, config.LevelCritical: logrus.FatalLevel,
	}
	kinds := map[config.DestKind]logging.Kind{
		config.DestSyslog: logging.Stdout, config.DestStdout: logging.Stdout, config.DestFile: logging.File,
	}
	return logging.Options{
		Program: "vxsnd", Level: levels[c.LogLevel], JSON: c.LogFormat == config.FormatJSON, Kind: kinds[c.LogDest.Kind], Path: c.LogDest.Path,
		MaxSize: c.LogFileSize, Backups: c.LogBackupCount, Stdout: stdout, Stderr: stderr,
	}
}

// serve runs the node until a signal stops it.
func serve(r config.Result, log logrus.FieldLogger) (err error) {
	log.WithField("version", currentVersion()).Info("vxsnd starts")
	for _, w := range r.Warnings {
		log.WithError(w).Warn("configuration taken with a reservation")
	}
	ctx, release := catchSignals(context.Background(), log)
	defer release()
	s, err := newService(r.Config, log)
	if err != nil {
		return startError(err, exitConfig)
	}
	defer func() {
		if e := s.Close(); err == nil && e != nil {
			err = startError(e, exitFailed)
		}
	}()
	if err = s.Listen(ctx); err == nil {
		err = s.Run(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // told to stop while it started
	}
	return startError(err, exitFailed)
}

// problems returns what err says about the configuration, if it is about that.
func problems(err error) (config.Problems, bool) {
	var ps config.Problems
	ok := errors.As(err, &ps)
	return ps, ok
}

// configError gives the error of a configuration its status: what is wrong
// with flags alone is a matter of usage.
func configError(err error) error {
	if ps, ok := problems(err); ok && ps.Flags() {
		return &exitError{exitUsage, err, ""}
	}
	return &exitError{exitConfig, err, ""}
}

func logError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &exitError{exitBind, err, "make the file writable for the user that runs vxsnd, or name another one (logdest)"}
	}
	return &exitError{exitConfig, err, "name a file in a directory that exists (logdest)"}
}

// startError is the one place that sorts the errors of a node into exit status
// and hint. other is the status of what is neither a busy address nor a lack
// of privilege.
func startError(err error, other int) error {
	if err == nil {
		return nil
	}
	e := &exitError{other, err, node.Hint(err)}
	hint := "run vxsnd with -D to see what led to it"
	switch {
	case errors.Is(err, node.ErrPrivilege):
		e.status = exitBind
		hint = "run vxsnd as root or with CAP_NET_RAW; with -R it floods nothing and needs none if vxfld_port is 1024 or higher"
	case errors.Is(err, node.ErrBind):
		e.status = exitBind
		hint = "compare svcnode_ip, src_ip, vrf and the ports with the addresses, devices and sockets of this machine"
	case other == exitConfig:
		hint = "change the configuration and check it with vxsnd -t"
	}
	if e.hint == "" {
		e.hint = hint
	}
	return e
}
