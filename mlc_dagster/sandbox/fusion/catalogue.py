"""The resources that this Fusion offers, each declared once: attributes in the order they are shown, key, children.

Names and kinds are those of the documented REST resources of version 11.13.18.05. Account combinations carry one
attribute per segment of the chart; booleans are real ones on some resources and Y/N text on others, as in Fusion.
"""

from mlc_dagster.sandbox.fusion.ledger_resources import JOURNAL_BATCHES, PURCHASE_ORDERS
from mlc_dagster.sandbox.fusion.resources import Attribute, Resource, attributes
from mlc_dagster.sandbox.seed import SEGMENTS

ASSIGNMENTS = Resource(
    "assignments",
    attributes(
        "AssignmentId:i ClientBUId:i ClientBU BillToBUId:i BillToBU ShipToLocationId:i ShipToLocation"
        " BillToLocationId:i"
        " BillToLocation DistributionSetId:i DistributionSet LiabilityDistributionId:i LiabilityDistribution"
        " BillPayableDistributionId:i BillPayableDistribution InactiveDate:d Status",
        {"Status": "ACTIVE"},
    ),
    "AssignmentId",
)
SITES = Resource(
    "sites",
    attributes(
        "SupplierSiteId:i SupplierSite ProcurementBUId:i ProcurementBU SupplierAddressId:i SupplierAddressName Address"
        " InactiveDate:d Status SitePurposeSourcingOnlyFlag:b SitePurposePurchasingFlag:b"
        " SitePurposeProcurementCardFlag:b SitePurposePayFlag:b SitePurposePrimaryPayFlag:b"
        " IncomeTaxReportingSiteFlag:b Email CommunicationMethodCode PaymentTerms PayGroup"
        " HoldAllNewPurchasingDocumentsFlag:b PurchasingHoldReason CreationDate:t LastUpdateDate:t",
        {
            "Status": "ACTIVE",
            "SitePurposeSourcingOnlyFlag": False,
            "SitePurposePurchasingFlag": False,
            "SitePurposeProcurementCardFlag": False,
            "SitePurposePayFlag": False,
            "SitePurposePrimaryPayFlag": False,
            "IncomeTaxReportingSiteFlag": False,
            "HoldAllNewPurchasingDocumentsFlag": False,
            "PaymentTerms": "Net 30",
            "PayGroup": "Standard",
        },
    ),
    "SupplierSiteId",
    children={"assignments": ASSIGNMENTS},
)
SUPPLIERS = Resource(
    "suppliers",
    attributes(
        "SupplierId:i SupplierPartyId:i Supplier SupplierNumber AlternateName Alias TaxOrganizationTypeCode"
        " TaxOrganizationType SupplierTypeCode SupplierType InactiveDate:d Status BusinessRelationshipCode"
        " BusinessRelationship DUNSNumber OneTimeSupplierFlag:b CorporateWebsite TaxpayerCountry TaxpayerId"
        " TaxRegistrationCountry TaxRegistrationNumber CreationDate:t CreatedBy LastUpdateDate:t LastUpdatedBy",
        {
            "Status": "ACTIVE",
            "BusinessRelationshipCode": "SPEND_AUTHORIZED",
            "BusinessRelationship": "Spend Authorized",
            "SupplierTypeCode": "SUPPLIER",
            "SupplierType": "Supplier",
            "OneTimeSupplierFlag": False,
            "CreatedBy": "CALVIN.ROTH",
            "LastUpdatedBy": "CALVIN.ROTH",
        },
    ),
    "SupplierId",
    children={"sites": SITES},
    indexed=("SupplierId", "SupplierNumber", "Supplier"),
    finders={"PrimaryKey": ("SupplierId",)},
)
COMBINATIONS = Resource(
    "accountCombinationsLOV",
    attributes(
        "_CODE_COMBINATION_ID:i _CHART_OF_ACCOUNTS_ID:i AccountType DetailPostingAllowedFlag DetailBudgetingAllowedFlag"
        " SummaryFlag EnabledFlag StartDateActive:d EndDateActive:d JgzzReconFlag FinancialCategory Reference3",
        {
            "DetailPostingAllowedFlag": "Y",
            "DetailBudgetingAllowedFlag": "Y",
            "SummaryFlag": "N",
            "EnabledFlag": "Y",
        },
    )
    | {name: Attribute(name, "string") for name in SEGMENTS},
    "_CODE_COMBINATION_ID",
    lov=True,
    indexed=("_CODE_COMBINATION_ID", "account"),
    finders={"PrimaryKey": ("_CODE_COMBINATION_ID",)},
)
PERIODS = Resource(
    "accountingPeriodStatusLOV",
    attributes("LedgerId:i PeriodNameId ApplicationId:i ClosingStatus StartDate:d EndDate:d"),
    "PeriodKey",
    opaque=True,
    numeric_key=False,
    lov=True,
    indexed=("LedgerId", "PeriodNameId"),
    finders={"AttrRowFinder": ("LedgerId", "PeriodNameId", "ApplicationId")},
)
LEDGERS = Resource(
    "ledgersLOV",
    attributes(
        "LedgerId:i Name Description CurrencyCode ChartOfAccountsId:i AccountedPeriodType PeriodSetName"
        " LedgerCategoryCode LedgerTypeCode EnableBudgetaryControlFlag:b",
        {
            "AccountedPeriodType": "MONTH_2099",
            "PeriodSetName": "AccountingMMMYY",
            "LedgerCategoryCode": "PRIMARY",
            "LedgerTypeCode": "L",
            "EnableBudgetaryControlFlag": False,
        },
    ),
    "LedgerId",
    lov=True,
    indexed=("LedgerId", "Name"),
    finders={"PrimaryKey": ("LedgerId",)},
)
BUSINESS_UNITS = Resource(
    "finBusinessUnitsLOV",
    attributes(
        "BusinessUnitId:i BusinessUnitName LocationId:i ManagerId:i LegalEntityId:i PrimaryLedgerId:i"
        " DefaultCurrencyCode ProfitCenterFlag:b Status",
        {"ProfitCenterFlag": False, "Status": "A"},
    ),
    "BusinessUnitId",
    opaque=True,
    lov=True,
    indexed=("BusinessUnitId", "BusinessUnitName"),
)
VALUES = Resource(
    "values",
    attributes(
        "ValueId:i IndependentValue Value TranslatedValue Description EnabledFlag StartDateActive:d EndDateActive:d"
        " SortOrder:i SummaryFlag DetailPostingAllowed DetailBudgetingAllowed AccountType ControlAccount"
        " ReconciliationFlag FinancialCategory ExternalDataSource CreationDate:t LastUpdateDate:t",
        {"EnabledFlag": "Y", "SummaryFlag": "N", "DetailPostingAllowed": "Y", "DetailBudgetingAllowed": "Y"},
    ),
    "ValueId",
)
VALUE_SETS = Resource(
    "valueSets",
    attributes(
        "ValueSetId:i ModuleId ValueSetCode Description ValidationType ValueDataType CreationDate:t LastUpdateDate:t",
        {"ModuleId": "61ECAF4AAAAEE990E040449821C61C97", "ValidationType": "Independent", "ValueDataType": "Character"},
    ),
    "ValueSetCode",
    children={"values": VALUES},
    indexed=("ValueSetId", "ValueSetCode"),
)

_LINE_FALSE = ("DiscardedFlag", "CanceledFlag", "TrackAsAssetFlag", "LandedCostEnabled", "FinalMatchFlag")
DISTRIBUTIONS = Resource(
    "invoiceDistributions",
    attributes(
        "InvoiceDistributionId:i DistributionLineNumber:i DistributionLineType DistributionAmount:n BaseAmount:n"
        " Description AccountingDate:d AccountingStatus DistributionCombination MatchedStatus FundsStatus"
        " CanceledFlag:b"
        " ReversedFlag:b PurchaseOrderNumber PurchaseOrderLineNumber:i ReceiptNumber ReceiptLineNumber:i"
        " PrepaymentNumber TaxName TaxRate:n AssetBook TrackAsAssetFlag:b CreatedBy CreationDate:t LastUpdateDate:t",
        {"CanceledFlag": False, "ReversedFlag": False, "TrackAsAssetFlag": False, "AccountingStatus": "Unprocessed"},
    ),
    "InvoiceDistributionId",
)
LINES = Resource(
    "invoiceLines",
    attributes(
        "LineNumber:i LineAmount:n AccountingDate:d UOM TaxRateName LineType AssetBook TrackAsAssetFlag:b BaseAmount:n"
        " Description IncomeTaxRegion Item ItemDescription LineSource Quantity:n DistributionCombination AssetCategory"
        " UnitPrice:n ProrateAcrossAllItemsFlag:b LandedCostEnabled:b DiscardedFlag:b CanceledFlag:b IncomeTaxType"
        " TaxRateCode TaxRate:n TaxClassification GenerateDistributions BudgetDate:d FundsStatus ApprovalStatus"
        " DistributionSet Withholding ShipToLocationCode ShipToLocation ShipToCustomerLocation TaxControlAmount:n"
        " AssessableValue:n ProductType ProductCategory IntendedUse Requester PurchasingCategory MatchType MatchOption"
        " MatchBasis PurchaseOrderNumber PurchaseOrderLineNumber:i PurchaseOrderScheduleLineNumber:i ReceiptNumber"
        " ReceiptLineNumber:i FinalMatchFlag:b MultiperiodAccountingStartDate:d MultiperiodAccountingEndDate:d"
        " MultiperiodAccountingAccrualAccount CreatedBy CreationDate:t LastUpdateDate:t LastUpdatedBy LastUpdateLogin"
        " RequesterId:i PrepaymentNumber PrepaymentLineNumber:i PrepaymentIncludedonInvoiceFlag:b",
        dict.fromkeys(_LINE_FALSE, False) | {"LineSource": "Manual line entry"},
    ),
    "LineKey",
    opaque=True,
    numeric_key=False,
    children={"invoiceDistributions": DISTRIBUTIONS},
)
ATTACHMENTS = Resource(
    "attachments",
    attributes(
        "AttachedDocumentId:i Type DatatypeCode FileName DmFolderPath DmDocumentId DmVersionNumber Url Category"
        " CategoryName UserName Uri FileUrl UploadedFileName UploadedFileLength:i UploadedFileContentType FileContents"
        " Title Description CreatedBy CreatedByUserName CreationDate:t LastUpdatedBy LastUpdateDate:t"
    ),
    "AttachedDocumentId",
    opaque=True,
)
INSTALLMENTS = Resource(
    "invoiceInstallments",
    attributes(
        "InstallmentNumber:i UnpaidAmount:n FirstDiscountAmount:n FirstDiscountDate:d SecondDiscountAmount:n"
        " SecondDiscountDate:d ThirdDiscountAmount:n ThirdDiscountDate:d DueDate:d GrossAmount:n HoldReason"
        " PaymentPriority:i NetAmountOne:n NetAmountTwo:n NetAmountThree:n HoldFlag:b HeldBy HoldType HoldDate:t"
        " PaymentMethod PaymentMethodCode BankAccount ExternalBankAccountId:i RemitToAddressName RemitToSupplier"
        " CreatedBy CreationDate:t LastUpdatedBy LastUpdateDate:t LastUpdateLogin",
        {"PaymentPriority": 99, "HoldFlag": False},
    ),
    "InstallmentKey",
    opaque=True,
    numeric_key=False,
)
INVOICES = Resource(
    "invoices",
    attributes(
        "InvoiceId:i InvoiceNumber InvoiceCurrency PaymentCurrency InvoiceAmount:n InvoiceDate:d BusinessUnit Supplier"
        " SupplierNumber ProcurementBU SupplierSite RequesterId:i Requester InvoiceGroup ConversionRateType"
        " ConversionDate:d ConversionRate:n AccountingDate:d Description DeliveryChannelCode DeliveryChannel"
        " PayAloneFlag:b InvoiceSourceCode InvoiceSource InvoiceType PayGroup InvoiceReceivedDate:d PaymentReasonCode"
        " PaymentReason PaymentReasonComments RemittanceMessageOne RemittanceMessageTwo RemittanceMessageThree"
        " PaymentTerms TermsDate:d GoodsReceivedDate:d PaymentMethodCode PaymentMethod SupplierTaxRegistrationNumber"
        " FirstPartyTaxRegistrationId:i FirstPartyTaxRegistrationNumber LegalEntity LegalEntityIdentifier"
        " LiabilityDistribution DocumentCategory DocumentSequence:i VoucherNumber ValidationStatus ApprovalStatus"
        " PaidStatus AccountingStatus ApplyAfterDate:d CanceledFlag:b AmountPaid:n BaseAmount:n PurchaseOrderNumber"
        " Party PartySite ControlAmount:n DocumentFiscalClassificationCodePath TaxationCountry RoutingAttribute1"
        " RoutingAttribute2 RoutingAttribute3 RoutingAttribute4 RoutingAttribute5 AccountCodingStatus BudgetDate:d"
        " FundsStatus CanceledDate:d CanceledBy UniqueRemittanceIdentifier UniqueRemittanceIdentifierCheckDigit"
        " CreationDate:t CreatedBy LastUpdatedBy LastUpdateDate:t LastUpdateLogin BankAccount SupplierIBAN"
        " ExternalBankAccountId:i BankChargeBearer SettlementPriority ReferenceKeyOne ReferenceKeyTwo ReferenceKeyThree"
        " ReferenceKeyFour ReferenceKeyFive ProductTable ImageDocumentNumber",
        {"PayAloneFlag": False},
    ),
    "InvoiceId",
    opaque=True,
    cap=499,
    children={"invoiceLines": LINES, "invoiceInstallments": INSTALLMENTS, "attachments": ATTACHMENTS},
    indexed=("InvoiceId", "InvoiceNumber", "SupplierNumber", "Supplier", "InvoiceGroup"),
    finders={"PrimaryKey": ("InvoiceId",)},
)
HOLDS = Resource(
    "invoiceHolds",
    attributes(
        "HoldId:i InvoiceNumber BusinessUnit Supplier Party LineHeld:i HoldName HoldReason HoldDetails HeldBy"
        " HoldDate:t"
        " ReleaseName ReleaseReason ReleaseDate:t WorkflowStatus PurchaseOrderNumber PurchaseOrderLineNumber:i"
        " PurchaseOrderScheduleLineNumber:i ReceiptNumber ReceiptLineNumber:i CreationDate:t LastUpdateDate:t",
        {"WorkflowStatus": "Not started", "HeldBy": "SYSTEM"},
    ),
    "HoldId",
    cap=499,
    indexed=("InvoiceNumber",),
)
ERP_INTEGRATIONS = Resource(
    "erpintegrations",
    attributes(
        "OperationName DocumentId DocumentContent FileName ContentType FileType DocumentAccount Comments ProcessName"
        " LoadRequestId JobPackageName JobDefName ReqstId RequestStatus JobName ParameterList NotificationCode"
        " CallbackURL JobOptions StatusCode ESSParameters"
    ),
    "ReqstId",
    opaque=False,
    finders={"ESSJobStatusRF": ("requestId",)},
)

TABLES = {
    resource.name: resource
    for resource in (
        SUPPLIERS,
        COMBINATIONS,
        PERIODS,
        LEDGERS,
        BUSINESS_UNITS,
        VALUE_SETS,
        INVOICES,
        HOLDS,
        JOURNAL_BATCHES,
        PURCHASE_ORDERS,
    )
}
