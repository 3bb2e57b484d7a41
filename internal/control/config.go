// SPDX-License-Identifier: Apache-2.0

package control

// The commands about the configuration.
const (
	// CommandConfig is answered with one []ConfigValue, in the order of the
	// documents. Its arguments are ConfigArgs.
	CommandConfig = "config"

	// CommandSetConfig changes one option until the next reload or restart. Its
	// arguments are SetConfigArgs.
	CommandSetConfig = "set_config"

	// CommandSetDebug has the daemon log all it can, or what the configuration says.
	// Its arguments are SetDebugArgs.
	CommandSetDebug = "set_debug"

	// CommandReload reads the configuration anew. It takes no arguments. All that
	// change the configuration are answered with one ReloadReport.
	CommandReload = "reload"
)

// ConfigArgs are the arguments of CommandConfig.
type ConfigArgs struct {
	// Name is the one option to answer for, by its name or an older one; empty for
	// all.
	Name string `json:"name,omitempty"`
}

// A ConfigValue is an option as it is in force. What a file says may differ, for
// an option that needs a restart.
type ConfigValue struct {
	Name string `json:"name"`
	// Value and Default are in the syntax of the configuration file. A very long
	// value is cut, and ends with an ellipsis then.
	Value   string `json:"value"`
	Default string `json:"default"`
	// Reload tells whether a change of it takes effect on a reload, and so whether
	// CommandSetConfig takes it.
	Reload bool `json:"reload,omitempty"`
	// Set tells whether the value was set by CommandSetConfig or CommandSetDebug.
	Set bool `json:"set,omitempty"`
}

// SetConfigArgs are the arguments of CommandSetConfig.
type SetConfigArgs struct {
	Name string `json:"name"`
	// Value is in the syntax of the configuration file.
	Value string `json:"value"`
}

// SetDebugArgs are the arguments of CommandSetDebug.
type SetDebugArgs struct {
	On bool `json:"on"`
}

// A ReloadReport says what became of a change of the configuration. One with
// Errors changed nothing.
type ReloadReport struct {
	// Changed are the options that have another value from now on.
	Changed []OptionChange `json:"changed,omitempty"`
	// Restart are those whose new value takes a restart.
	Restart []OptionChange `json:"restart,omitempty"`
	// Warnings say what an operator should look at, each in one line.
	Warnings []string `json:"warnings,omitempty"`
	// Errors are all that is wrong.
	Errors []ReloadProblem `json:"errors,omitempty"`
}

// An OptionChange is an option with two values, each in the syntax of the
// configuration file. A very long one is cut, and ends with an ellipsis then.
type OptionChange struct {
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// A ReloadProblem is something wrong with a new configuration.
type ReloadProblem struct {
	// Text says what and where: one line, lower case.
	Text string `json:"text"`
	// Hint says what to do about it; empty where Text says it.
	Hint string `json:"hint,omitempty"`
}
