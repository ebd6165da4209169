"""The resources that Thaw has itself, one module per type of CloudFormation's."""
