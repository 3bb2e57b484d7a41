// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// An overlay is what was set over files and flags while the daemon runs. It lasts
// until the next reload. It is never changed, a copy takes its place.
type overlay struct {
	set   []config.Flag // one for each option
	debug bool          // loglevel is debug, whatever else is said
}

// flags returns what is set, to be read behind all else.
func (o *overlay) flags() []config.Flag {
	if !o.debug {
		return o.set
	}
	return append(slices.Clone(o.set), setting("loglevel", config.LevelDebug.String()))
}

// has tells whether an option is set.
func (o *overlay) has(option string) bool {
	return slices.ContainsFunc(o.flags(), func(f config.Flag) bool { return f.Option == option })
}

// without returns what is set but for one option.
func (o *overlay) without(option string) []config.Flag {
	return slices.DeleteFunc(slices.Clone(o.set), func(f config.Flag) bool { return f.Option == option })
}

// setting is a value that was set. What is wrong with it is told of the option.
func setting(option, value string) config.Flag {
	return config.Flag{Name: option, Option: option, Value: value}
}

// A demand is what a client of the management socket wants done to the
// configuration. The goroutine that does what signals ask for does it, in turn
// with them.
type demand struct {
	do     func(ctx context.Context, ready bool) (control.ReloadReport, error)
	answer chan outcome // has room for it
}

// An outcome is the answer to a demand.
type outcome struct {
	report control.ReloadReport
	err    error
}

// errStopping is the answer to who asks for a change of what is about to end.
var errStopping = &control.Error{Code: control.CodeStopping, Text: "the daemon stops"}

// ask has a demand done and returns its outcome. Those that wait are as many as
// there are clients at most; what has begun goes to its end, although nobody may
// wait for it any more.
func (d *daemon) ask(ctx context.Context, q demand) (control.ReloadReport, error) {
	q.answer = make(chan outcome, 1)
	select {
	case d.demands <- q:
	case <-d.left:
		return control.ReloadReport{}, errStopping
	case <-ctx.Done():
		return control.ReloadReport{}, errStopping
	}
	select {
	case o := <-q.answer:
		return o.report, o.err
	case <-ctx.Done():
		return control.ReloadReport{}, errStopping
	}
}

// steerCommands are the commands that change the configuration.
func (d *daemon) steerCommands() []control.Command {
	reload := func(ctx context.Context, call *control.Call) error {
		if err := control.DecodeArgs(call.Args, &struct{}{}); err != nil {
			return err
		}
		return d.send(ctx, call, demand{do: func(ctx context.Context, ready bool) (control.ReloadReport, error) {
			return d.reload(ctx, ready), nil
		}})
	}
	set := func(ctx context.Context, call *control.Call) error {
		// As control.SetConfigArgs, but what is left out is not the empty value.
		var a struct {
			Name  *string `json:"name"`
			Value *string `json:"value"`
		}
		if err := control.DecodeArgs(call.Args, &a); err != nil {
			return err
		}
		if a.Name == nil || a.Value == nil {
			return &control.Error{Code: control.CodeBadArgument, Text: "an option (name) and its value are to be named"}
		}
		return d.send(ctx, call, demand{do: func(context.Context, bool) (control.ReloadReport, error) { return d.setOption(*a.Name, *a.Value) }})
	}
	debug := func(ctx context.Context, call *control.Call) error {
		// As control.SetDebugArgs, likewise.
		var a struct {
			On *bool `json:"on"`
		}
		if err := control.DecodeArgs(call.Args, &a); err != nil {
			return err
		}
		if a.On == nil {
			return &control.Error{Code: control.CodeBadArgument, Text: "on, true or false, is to be named"}
		}
		return d.send(ctx, call, demand{do: func(context.Context, bool) (control.ReloadReport, error) { return d.setDebug(*a.On), nil }})
	}
	return []control.Command{
		{Name: control.CommandReload, Changes: true, Run: reload},
		{Name: control.CommandSetConfig, Changes: true, Run: set},
		{Name: control.CommandSetDebug, Changes: true, Run: debug},
	}
}

// send answers a call with what becomes of a demand.
func (d *daemon) send(ctx context.Context, call *control.Call, q demand) error {
	report, err := d.ask(ctx, q)
	if err != nil {
		return err
	}
	return call.Send(report)
}

// setOption sets an option until the next reload.
func (d *daemon) setOption(name, value string) (control.ReloadReport, error) {
	o, err := d.settable(name)
	if err != nil {
		return control.ReloadReport{}, err
	}
	next := overlay{set: append(d.over.without(o.Name), setting(o.Name, value)), debug: d.over.debug && o.Name != "loglevel"}
	return d.lay(next), nil
}

// settable returns the option of a name if it may be set.
func (d *daemon) settable(name string) (config.Option, error) {
	o, err := findOption(d.input.Program, name)
	if err != nil {
		return o, err
	}
	e := &control.Error{Code: control.CodeBadArgument}
	file := d.absolute(d.input.File)
	switch {
	case o.Sums:
		e.Text = o.Name + " adds up over lines, and is not set"
		e.Hint = "make members with fdb add or fdb file, or write them to " + file + " and reload"
	case !o.Reload:
		e.Text, e.Hint = o.Name+" needs a restart", "write it to "+file+" and restart"
	default:
		return o, nil
	}
	return o, e
}

// setDebug has everything logged, or no more than is configured.
func (d *daemon) setDebug(on bool) control.ReloadReport {
	next := overlay{set: d.over.set, debug: on}
	debug := config.LevelDebug
	if !on && slices.ContainsFunc(next.set, func(f config.Flag) bool {
		return f.Option == "loglevel" && strings.EqualFold(strings.TrimSpace(f.Value), debug.String())
	}) {
		next.set = next.without("loglevel")
	}
	report := d.lay(next)
	if !on && len(report.Errors) == 0 && d.running.LogLevel == debug {
		report.Warnings = append(report.Warnings, "loglevel is debug by the configuration, too: set config loglevel info is another way")
	}
	return report
}

// lay puts an overlay in the place of the one before, all or nothing.
func (d *daemon) lay(over overlay) control.ReloadReport {
	r, err := d.loaded.With(over.flags())
	var report control.ReloadReport
	if err == nil {
		err = d.mayLog(&over, r.Config.LogDest)
	}
	if err == nil {
		r.Config = r.Config.WithStatic(&d.running) // what needs a restart was said at the reload
		r.Warnings = slices.DeleteFunc(r.Warnings, d.warned)
		report, err = d.change(r)
	}
	if err != nil {
		report, _ = d.refused(err)
		for _, p := range report.Errors {
			d.log.WithField(logrus.ErrorKey, p.Text).Warn("option not set, the configuration stays")
		}
		return report
	}
	d.log.WithField("changed", len(report.Changed)).Info("option set until the next reload")
	d.mu.Lock()
	d.over = over
	d.mu.Unlock()
	return report
}

// warned tells whether something was said of the configuration before anything
// was set.
func (d *daemon) warned(w *config.Problem) bool {
	return slices.ContainsFunc(d.loaded.Warnings, func(p *config.Problem) bool { return p.Error() == w.Error() })
}
