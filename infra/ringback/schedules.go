package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/jsii-runtime-go"

	"github.com/ringback/ringback/internal/job"
)

// schedules creates the group of the schedules that wake suspended jobs, and the
// role with which EventBridge Scheduler sends the wake-ups. The process function
// creates the schedules themselves at run time.
func (r *Ringback) schedules() {
	r.Schedules = awsscheduler.NewScheduleGroup(r.Construct, jsii.String("Schedules"), &awsscheduler.ScheduleGroupProps{
		// The queues that the schedules send to are deleted with the stack too.
		RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
	// Without the conditions, a schedule of another account, or a schedule that
	// is unrelated to jobs, could assume the role. The source is the group: the
	// ARN of a schedule never matches (EventBridge Scheduler user guide,
	// "Confused deputy prevention").
	r.scheduleRole = awsiam.NewRole(r.Construct, jsii.String("SchedulesRole"), &awsiam.RoleProps{
		Description: jsii.String("Wakes Ringback's suspended jobs"),
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("scheduler.amazonaws.com"), &awsiam.ServicePrincipalOpts{
			Conditions: &map[string]any{"StringEquals": map[string]any{
				"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID(),
				"aws:SourceArn":     r.Schedules.ScheduleGroupArn(),
			}},
		}),
	})
	r.send(r.scheduleRole, r.Jobs)
	r.send(r.scheduleRole, r.LongJobs)
	r.send(r.scheduleRole, r.JobsDLQ)
}

// sweep creates the schedule that makes the process function look for jobs that wait
// in vain. The time does not matter, so AWS may choose it within an hour.
func (r *Ringback) sweep() {
	body, err := job.Sweep{}.Encode()
	if err != nil {
		panic(err) // a message without members
	}
	made := awsscheduler.NewCfnSchedule(r.Construct, jsii.String("Sweep"), &awsscheduler.CfnScheduleProps{
		Description:        jsii.String("Makes Ringback look for jobs that wait for something that was lost"),
		GroupName:          r.Schedules.ScheduleGroupName(),
		ScheduleExpression: jsii.String("rate(1 day)"),
		FlexibleTimeWindow: &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{
			Mode: jsii.String("FLEXIBLE"), MaximumWindowInMinutes: jsii.Number(60),
		},
		Target: &awsscheduler.CfnSchedule_TargetProperty{
			Arn: r.Jobs.QueueArn(), RoleArn: r.scheduleRole.RoleArn(), Input: jsii.String(body),
			DeadLetterConfig: &awsscheduler.CfnSchedule_DeadLetterConfigProperty{Arn: r.JobsDLQ.QueueArn()},
		},
	})
	// Its name and its role must exist, and the role must be allowed to send.
	made.Node().AddDependency(r.Schedules, r.scheduleRole)
}

// schedule lets a function create schedules in the group.
func (r *Ringback) schedule(f awsiam.IGrantable) {
	r.onSchedules(f, "scheduler:CreateSchedule")
	allowIf(f, *r.scheduleRole.RoleArn(), "StringEquals",
		map[string]any{"iam:PassedToService": "scheduler.amazonaws.com"}, "iam:PassRole")
}

// unschedule lets a function delete schedules of the group.
func (r *Ringback) unschedule(f awsiam.IGrantable) {
	r.onSchedules(f, "scheduler:DeleteSchedule")
}

// onSchedules allows an action on the group's schedules. Their names are unknown
// until run time. ScheduleGroup.Grant would name the group, which allows nothing on
// its schedules.
func (r *Ringback) onSchedules(f awsiam.IGrantable, action string) {
	allow(f, *awscdk.Stack_Of(r.Construct).FormatArn(&awscdk.ArnComponents{
		Service: jsii.String("scheduler"), Resource: jsii.String("schedule"),
		ResourceName: jsii.String(*r.Schedules.ScheduleGroupName() + "/*"),
	}), action)
}
