package dynamotable

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ringback/ringback/internal/job"
)

// maxPages limits what [Active] reads. A page has 1 MB at most (Amazon DynamoDB
// developer guide, "Scanning tables").
const maxPages = 500

// Active returns up to most jobs whose result is not delivered yet and not given up, in no order, and reports
// whether these are all of them. It reads the whole index, which has a few hundred bytes
// for each job of the last 30 days. It may miss what was saved a moment ago. The
// functions neither need it nor have the permission to scan.
func Active(
	ctx context.Context, client dynamodb.ScanAPIClient, table string, most int,
) (jobs []job.Summary, all bool, err error) {
	states := make(map[string]types.AttributeValue)
	for _, state := range job.Unsettled() {
		states[":"+string(state)] = text(string(state))
	}
	filter := "#state IN (" + strings.Join(slices.Sorted(maps.Keys(states)), ", ") + ")"
	pages := dynamodb.NewScanPaginator(client, &dynamodb.ScanInput{
		TableName:                 aws.String(table),
		IndexName:                 aws.String(Index),
		FilterExpression:          &filter,
		ExpressionAttributeNames:  map[string]string{"#state": "state"},
		ExpressionAttributeValues: states,
	})
	for range maxPages {
		if !pages.HasMorePages() {
			return jobs, true, nil
		}
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, false, fmt.Errorf("scan table %s: %w", table, err)
		}
		for _, item := range page.Items {
			if len(jobs) == most {
				return jobs, false, nil
			}
			jobs = append(jobs, summary(item))
		}
	}
	return jobs, !pages.HasMorePages(), nil
}
