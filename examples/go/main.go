// Command agent shows every step of an agent: it validates a configuration file, shows the rules, installs them into a
// network namespace, checks that they are active, and removes them again.
//
//	agent CONFIG.yaml [NAMESPACE]
package main

import (
	"errors"
	"fmt"
	"os"

	"example.com/kumatp"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: agent CONFIG.yaml [NAMESPACE]")
		os.Exit(2)
	}
	err := run(os.Args[1], os.Args[2:])
	var failure *kumatp.Error
	switch {
	case err == nil:
	case errors.As(err, &failure) && len(failure.Problems) > 0:
		for _, problem := range failure.Problems {
			fmt.Fprintf(os.Stderr, "agent: %s: %q is not valid: expected %s\n", problem.Path, problem.Value, problem.Expected)
		}
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run(path string, namespace []string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var netns *os.File
	if len(namespace) == 1 {
		if netns, err = os.Open(namespace[0]); err != nil {
			return err
		}
		defer netns.Close()
	}

	config, err := kumatp.ParseConfig(string(document), kumatp.YAML)
	if err != nil {
		return err
	}
	defer config.Close()
	fmt.Println(path, "is valid")

	facts, err := kumatp.Probe(config, kumatp.Netlink, netns)
	if err != nil {
		return err
	}
	defer facts.Close()
	plan, err := kumatp.NewPlan(config, facts)
	if err != nil {
		return err
	}
	defer plan.Close()
	rules, err := plan.Render(kumatp.IptablesRestore, kumatp.Both)
	if err != nil {
		return err
	}
	fmt.Print(rules)

	report, err := plan.Apply(kumatp.Netlink, netns)
	if err != nil {
		return err
	}
	tell(report)
	if err := look(plan, netns); err != nil {
		return err
	}
	if report, err = kumatp.Uninstall(kumatp.Netlink, netns); err != nil {
		return err
	}
	tell(report)
	return look(plan, netns)
}

func tell(report kumatp.Report) {
	for _, engine := range report.Reports {
		for _, step := range engine.Steps {
			fmt.Println(step)
		}
	}
}

func look(plan *kumatp.Plan, netns *os.File) error {
	state, err := plan.State(netns)
	if err == nil {
		fmt.Println("state:", state)
	}
	return err
}
