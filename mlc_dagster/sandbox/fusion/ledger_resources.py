"""General-ledger journals and purchase orders as REST resources: attributes as they are shown, keys, children.

Names are those of version 11.13.18.05. Journals and their lines carry no id of their own: only their links tell them
apart, as in Fusion. What invoices and the reference data look like is in ``catalogue``.
"""

from mlc_dagster.sandbox.fusion.resources import Resource, attributes

_WHO = " CreatedBy CreationDate:t LastUpdatedBy LastUpdateDate:t"
_TOTALS = " RunningTotalDr:n RunningTotalCr:n RunningTotalAccountedDr:n RunningTotalAccountedCr:n"
_RATE = " CurrencyConversionDate:d CurrencyConversionRate:n UserCurrencyConversionType"

JOURNAL_LINES = Resource(
    "journalLines",
    attributes(
        "JeLineNumber:i AccountCombination ChartOfAccountsName EnteredDr:n EnteredCr:n AccountedDr:n AccountedCr:n"
        " StatAmount:n CurrencyCode" + _RATE + " Description Reference1 Reference2 Reference3 Reference4 Reference5"
        " Reference6 Reference7 Reference8 Reference9 Reference10 ReconciliationReference JgzzReconReference"
        " JgzzReconDate:d JgzzReconId:i jgzzReconStatusMeaning" + _WHO
    ),
    "LineKey",
    opaque=True,
    numeric_key=False,
)
JOURNAL_HEADERS = Resource(
    "journalHeaders",
    attributes(
        "JournalName JournalDescription LedgerName LedgerCurrencyCode LegalEntityName CurrencyCode PeriodName"
        " DefaultEffectiveDate:d ReferenceDate:d UserJeCategoryName"
        + _RATE
        + " ControlTotal:n"
        + _TOTALS
        + " EncumbranceType AccrualReversalDate:d AccrualReversalPeriodName PostingAccountSequenceValue"
        " CloseAccountSequenceValue ExternalReference OriginatingBalSegValue ReversedJeHeaderName"
        " JeFromSlaFlagMeaning" + _WHO,
        {"JeFromSlaFlagMeaning": "No"},
    ),
    "HeaderKey",
    opaque=True,
    numeric_key=False,
    children={"journalLines": JOURNAL_LINES},
)
JOURNAL_BATCHES = Resource(
    "journalBatches",
    attributes(
        "JeBatchId:i BatchName BatchDescription AccountedPeriodType DefaultPeriodName Status StatusMeaning"
        " ControlTotal:n ErrorMessage PostedDate:d PostingRunId:i RequestId:i" + _TOTALS + " ActualFlagMeaning"
        " ApprovalStatusMeaning ApproverEmployeeName CompletionStatusMeaning FundsStatusMeaning ParentJeBatchName"
        " ChartOfAccountsName UserPeriodSetName UserJeSourceName ReversalDate:d ReversalPeriod ReversalFlag"
        " ReversalMethodMeaning" + _WHO,
        {
            "AccountedPeriodType": "Month",
            "ActualFlagMeaning": "Actual",
            "ApprovalStatusMeaning": "Not required",
            "CompletionStatusMeaning": "Complete",
            "FundsStatusMeaning": "Not applicable",
            "UserPeriodSetName": "AccountingMMMYY",
        },
    ),
    "JeBatchId",
    children={"journalHeaders": JOURNAL_HEADERS},
    indexed=("JeBatchId", "BatchName"),
    finders={"PrimaryKey": ("JeBatchId",)},
)

ORDER_DISTRIBUTIONS = Resource(
    "distributions",
    attributes(
        "PODistributionId:i LineLocationId:i POLineId:i POHeaderId:i DistributionNumber:i Quantity:n Ordered:n"
        " POChargeAccount BudgetDate:d DeliverToLocation Requester CurrencyCode CreationDate:t LastUpdateDate:t"
    ),
    "PODistributionId",
    opaque=True,
)
SCHEDULES = Resource(
    "schedules",
    attributes(
        "LineLocationId:i POLineId:i POHeaderId:i ScheduleNumber:i Status StatusCode Quantity:n SecondaryQuantity:n"
        " SecondaryUOMCode Ordered:n CountryOfOriginCode ShipToLocationId:i ShipToLocationCode ShipToLocation"
        " ShipToOrganizationId:i ShipToOrganizationCode ShipToOrganization DestinationTypeCode DestinationType"
        " InvoiceMatchOptionCode Carrier ServiceLevel ModeOfTransportCode RequestedDeliveryDate:d"
        " PromisedDeliveryDate:d RequestedShipDate:d PromisedShipDate:d CreationDate:t LastUpdateDate:t",
        {"DestinationTypeCode": "EXPENSE", "DestinationType": "Expense", "InvoiceMatchOptionCode": "P"},
    ),
    "LineLocationId",
    opaque=True,
    children={"distributions": ORDER_DISTRIBUTIONS},
)
ORDER_LINES = Resource(
    "lines",
    attributes(
        "POLineId:i POHeaderId:i LineNumber:i LineTypeId:i LineType ItemId:i Item Description CategoryId:i Category"
        " Quantity:n UOMCode UOM Price:n Ordered:n Total:n CurrencyCode SupplierItem Status StatusCode CreationDate:t"
        " LastUpdateDate:t"
    ),
    "POLineId",
    children={"schedules": SCHEDULES},
)
PURCHASE_ORDERS = Resource(
    "purchaseOrders",
    attributes(
        "POHeaderId:i OrderNumber OrderDate:t SoldToLegalEntityId:i SoldToLegalEntity Status StatusCode Revision:i"
        " Description ProcurementBUId:i ProcurementBU RequisitioningBUId:i RequisitioningBU BillToBUId:i BillToBU"
        " BillToLocationId:i BillToLocation DefaultShipToLocationCode DefaultShipToLocation BuyerId:i Buyer"
        " SupplierId:i Supplier SupplierSiteId:i SupplierSite SupplierContact DocumentStyleId:i DocumentStyle"
        " CurrencyCode Ordered:n Total:n FrozenFlag:b FundsStatus PaymentTerms FreightTerms FOB Carrier"
        " AcknowledgmentDueDate:d" + _WHO,
        {"FrozenFlag": False, "FundsStatus": "Not applicable", "DocumentStyle": "Purchase Order"},
    ),
    "POHeaderId",
    opaque=True,
    children={"lines": ORDER_LINES},
    indexed=("POHeaderId", "OrderNumber"),
    finders={"PrimaryKey": ("POHeaderId",)},
)
