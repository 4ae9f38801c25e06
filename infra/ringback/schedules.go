package ringback

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/jsii-runtime-go"
)

// schedules makes the group of the schedules that wake waiting jobs, and the
// role by which EventBridge Scheduler sends what wakes them. The schedules
// themselves are made at run time, by the process function.
func (r *Ringback) schedules() {
	r.Schedules = awsscheduler.NewScheduleGroup(r.Construct, jsii.String("Schedules"), &awsscheduler.ScheduleGroupProps{
		// With the stack, the queue that they send to goes too.
		RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
	// Without the conditions, a schedule of another account, or one that has
	// nothing to do with jobs, could be given the role. The source is the
	// group: a schedule's own ARN never matches (EventBridge Scheduler user
	// guide, "Confused deputy prevention").
	r.scheduleRole = awsiam.NewRole(r.Construct, jsii.String("SchedulesRole"), &awsiam.RoleProps{
		Description: jsii.String("Wakes Ringback's waiting jobs"),
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("scheduler.amazonaws.com"), &awsiam.ServicePrincipalOpts{
			Conditions: &map[string]any{"StringEquals": map[string]any{
				"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID(),
				"aws:SourceArn":     r.Schedules.ScheduleGroupArn(),
			}},
		}),
	})
	r.send(r.scheduleRole, r.Jobs)
	r.send(r.scheduleRole, r.JobsDLQ)
}

// schedule lets a function make schedules in the group.
func (r *Ringback) schedule(f awsiam.IGrantable) {
	r.onSchedules(f, "scheduler:CreateSchedule")
	awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee:      f,
		Actions:      jsii.Strings("iam:PassRole"),
		ResourceArns: &[]*string{r.scheduleRole.RoleArn()},
		Conditions:   &map[string]*map[string]any{"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
	})
}

// unschedule lets a function delete schedules of the group.
func (r *Ringback) unschedule(f awsiam.IGrantable) {
	r.onSchedules(f, "scheduler:DeleteSchedule")
}

// onSchedules lets a function do something with the group's schedules. Their
// names are made at run time.
func (r *Ringback) onSchedules(f awsiam.IGrantable, actions ...string) {
	awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee: f,
		Actions: jsii.Strings(actions...),
		// ScheduleGroup.Grant would name the group, which allows nothing of
		// its schedules.
		ResourceArns: &[]*string{awscdk.Stack_Of(r.Construct).FormatArn(&awscdk.ArnComponents{
			Service: jsii.String("scheduler"), Resource: jsii.String("schedule"),
			ResourceName: jsii.String(*r.Schedules.ScheduleGroupName() + "/*"),
		})},
	})
}
